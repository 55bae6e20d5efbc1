#!/usr/bin/python3
"""An engine that connects where its prompts say, and tells what came of it: an engine in wrong hands, as far as the network goes.

Prompts, one a line:
    proxy HOST:PORT      asks the proxy of HTTPS_PROXY for a tunnel, and for / through it
    get URL              asks the proxy for the URL, in plain
    direct HOST:PORT     connects by itself
    listening            what its own network has besides loopback
"""
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


def proxy():
    parts = urlsplit(os.environ["HTTPS_PROXY"])
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def all_of(connection):
    text = b""
    try:
        while chunk := connection.recv(4096):
            text += chunk
    except OSError as error:
        text += str(error).encode()
    return text.decode(errors="replace")


def through_proxy(target):
    with proxy() as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = connection.recv(4096).decode(errors="replace")
        if not head.startswith("HTTP/1.1 200"):
            return head + all_of(connection)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return all_of(connection)


def plain(url):
    with proxy() as connection:
        connection.sendall(f"GET {url} HTTP/1.1\r\nHost: evil\r\n\r\n".encode())
        return all_of(connection)


def direct(target):
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=3):
        return "connected"


def carry_out(prompt):
    act, _, what = prompt.partition(" ")
    try:
        return {"proxy": through_proxy, "get": plain, "direct": direct}[act](what)
    except (OSError, KeyError) as error:
        return f"failed: {type(error).__name__}: {error}"


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer({"status": "ok"})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = carry_out(request["prompt"])
        self.answer({"object": "text_completion", "model": request["model"], "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
                     "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})

    def log_message(self, *_):
        pass


ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Engine).serve_forever()
