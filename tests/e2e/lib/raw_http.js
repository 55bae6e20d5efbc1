// HTTP as no client library sends it.
import net from 'node:net';

/**
 * Sends `pieces` (strings, or functions awaited before the next is sent) to the server and collects what comes back until it closes:
 * {text, status, closed}. `enough` ends it sooner.
 */
export function rawHttp(server, pieces, { enough = () => false } = {}) {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve) => {
    let text = '';
    const socket = net.connect(Number(port), hostname);
    const finish = (closed) => {
      socket.destroy();
      resolve({ text, status: Number(text.match(/^HTTP\/1\.1 (\d+)/)?.[1] ?? 0), closed });
    };
    socket.setEncoding('latin1');
    socket.on('data', (data) => {
      text += data;
      if (enough(text)) finish(false);
    });
    socket.on('error', () => finish(true));
    socket.on('close', () => finish(true));
    socket.on('connect', async () => {
      for (const piece of pieces) {
        if (typeof piece === 'function') await piece();
        else if (!socket.destroyed) socket.write(piece);
      }
    });
  });
}

/** The JSON body behind the head. */
export const bodyOf = (text) => JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4));
