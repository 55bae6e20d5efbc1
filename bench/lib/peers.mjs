// The peers of thaw's relay: one worker each, connections kept alive on both sides, nothing buffered, no access log.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { answering, background, freePort } from './processes.mjs';

const manyConnections = 4096;
const keepIdle = 1024;
const forEver = 1_000_000_000;  // requests on one connection

export async function startNginx(directory, socket) {
  const home = path.join(directory, 'nginx');
  mkdirSync(home);
  const port = await freePort();
  const config = path.join(home, 'nginx.conf');
  writeFileSync(
    config,
    `user root;
worker_processes 1;
daemon off;
pid ${home}/pid;
error_log ${home}/error.log;
events { worker_connections ${manyConnections}; }
http {
  access_log off;
  client_body_temp_path ${home}/body;
  proxy_temp_path ${home}/proxy;
  fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi;
  scgi_temp_path ${home}/scgi;
  keepalive_timeout 75s;
  keepalive_requests ${forEver};
  upstream engine {
    server unix:${socket};
    keepalive ${keepIdle};
    keepalive_requests ${forEver};
  }
  server {
    listen 127.0.0.1:${port} backlog=1024;
    location / {
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
`,
  );
  const server = background(['nginx', '-p', home, '-c', config, '-e', `${home}/error.log`], path.join(home, 'log'));
  const url = `http://127.0.0.1:${port}`;
  await answering(server, `${url}/health`);
  return { name: 'nginx', port, url, pid: server.pid, key: 'none', tree: true };
}

export async function startHaproxy(directory, socket) {
  const port = await freePort();
  const config = path.join(directory, 'haproxy.cfg');
  writeFileSync(
    config,
    `global
  nbthread 1
  maxconn ${manyConnections}
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend front
  bind 127.0.0.1:${port} backlog 1024
  default_backend engine
backend engine
  server engine unix@${socket} pool-max-conn -1
`,
  );
  const server = background(['haproxy', '-db', '-f', config], path.join(directory, 'haproxy.log'));
  const url = `http://127.0.0.1:${port}`;
  await answering(server, `${url}/health`);
  return { name: 'haproxy', port, url, pid: server.pid, key: 'none', tree: true };
}
