/**
 * The resident annotator. Starting Node for each of a kernel's files would cost
 * a tenth of the build; the front asks this server instead.
 *
 * It listens on the loopback interface, because that is what a shell can reach
 * without a helper program, and answers only who knows the token in its state
 * file, which only the user can read. A request is `token NUL field NUL ...`
 * up to a newline; the answer is one line, empty for success.
 */
import { randomBytes } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { parseRequest, perform } from './request.ts';

/** Milliseconds without a request after which the server goes. */
const IDLE = 60_000;
/** Characters of the longest request; paths are at most 4096 each. */
const LONGEST_REQUEST = 32_768;

/** Runs until idle, or returns at once if a server for the same state is there. */
export function serve(state: string): void {
  // An abstract socket's name is a lock that the kernel releases when its holder dies.
  const lock = createServer();
  lock.on('error', () => process.exit(0));
  lock.listen(`\0previrt-as:${process.getuid?.()}:${state}`, () => listen(state));
}

function listen(state: string): void {
  const token = randomBytes(16).toString('hex');
  const server = createServer((socket) => receive(socket, token));
  const idle = setTimeout(() => process.exit(0), IDLE);
  server.on('connection', () => idle.refresh());
  server.on('error', () => process.exit(1));
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    if (address === null || typeof address === 'string') return;
    const file = `${state}/server`;
    writeFileSync(`${file}.new`, `${address.port} ${token}\n`, { mode: 0o600 });
    renameSync(`${file}.new`, file);
  });
}

function receive(socket: Socket, token: string): void {
  let received = '';
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    received += chunk;
    const end = received.indexOf('\0\n');
    if (end >= 0) socket.end(`${answer(received.slice(0, end), token)}\n`);
    else if (received.length > LONGEST_REQUEST) socket.destroy();
  });
}

function answer(message: string, token: string): string {
  const [given, ...fields] = message.split('\0');
  const request = given === token ? parseRequest(fields) : undefined;
  if (request === undefined) return 'refused';
  try {
    perform(request);
    return '';
  } catch (error) {
    // The front then does the job without the server, and reports.
    return `failed: ${(error as Error).message.replaceAll('\n', ' ')}`;
  }
}
