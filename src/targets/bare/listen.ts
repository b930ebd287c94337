/** A Unix socket that one client connects to: how QEMU's control sockets come about. */

import { closeSync, openSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';

/** What whoever waits for QEMU is told when it has ended. */
export class QemuGone extends Error {}

export interface Listener<Client> {
  /** Rejects if client and server cannot agree; stays pending if nobody ever connects. */
  readonly connected: Promise<Client>;
  /** Waits no longer. */
  close(): void;
}

/** @param greet what becomes of the connection */
export function listenFor<Client>(
  path: string,
  greet: (socket: Socket) => Client | Promise<Client>,
): Promise<Listener<Client>> {
  // A socket's path has 107 bytes at most (unix(7)), of which Node cuts off the rest; that of a folder may be longer.
  const folder = openSync(dirname(path), 'r');
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject).once('close', () => closeSync(folder));
    const connected = new Promise<Socket>((ready) => {
      server.once('connection', (socket) => {
        server.close();
        ready(socket);
      });
    }).then(greet);
    connected.catch(() => {});
    server.listen(`/proc/self/fd/${folder}/${basename(path)}`, () =>
      resolve({ connected, close: () => void server.close() }),
    );
  });
}
