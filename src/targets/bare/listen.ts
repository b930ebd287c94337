/** A Unix socket that one client connects to: how QEMU's control sockets come about. */

import { createServer, type Socket } from 'node:net';

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
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    const connected = new Promise<Socket>((ready) => {
      server.once('connection', (socket) => {
        server.close();
        ready(socket);
      });
    }).then(greet);
    connected.catch(() => {});
    server.listen(path, () => resolve({ connected, close: () => void server.close() }));
  });
}
