/**
 * What a machine of QEMU's writes before its first instruction: the stream that a
 * guest's state is put into (pc-state.ts). It takes a start of QEMU, so it is made
 * before a guest has to stand still, once for all of one kind.
 */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../../elf/input-error.ts';
import { NO_PLAN } from '../resume-plan.ts';
import { qemuEnded, startQemu } from '../start-qemu.ts';
import { type Hardware, machineOptions, machineWith, QEMU, RICHER } from './command-line.ts';
import { inFolder } from './in-folder.ts';
import { type MigrationStream, readStream } from './migration-stream.ts';
import { RAM } from './pc-state.ts';
import { writeStream } from './qemu-guest.ts';
import { listenForQmp } from './qmp.ts';

/** Which pages of its RAM are zero need not be known: guests of gibibytes have many. */
const withoutZeros = (stream: MigrationStream): MigrationStream => ({
  ...stream,
  portions: stream.portions.map(({ mark, pages }) => ({
    mark,
    pages: [...pages]
      .filter(({ block, bytes }) => block !== RAM || bytes)
      .map((page) => ({ ...page, sameBlock: false })),
  })),
});

async function makeTemplate(folder: string, hardware: Hardware): Promise<MigrationStream> {
  const control = await listenForQmp(join(folder, 'qmp'));
  const args = [...machineWith(RICHER), ...(await machineOptions(folder, hardware, NO_PLAN))];
  // It only looks at the disk, which the machine that the guest comes from may still lock.
  if (hardware.disk !== undefined) args.push('-set', 'drive.disk.file.locking=off');
  const qemu = startQemu(QEMU, [...args, '-qmp', 'unix:qmp', '-S'], folder);
  const ended = qemuEnded(qemu, QEMU);
  try {
    const gone = ended.then((): never => {
      throw new InputError(
        `${QEMU} ${qemu.signalCode ? `was ended by ${qemu.signalCode}` : 'does not start'}`,
      );
    });
    const written = control.connected.then((qmp) => writeStream(qmp, folder));
    return withoutZeros(readStream(await Promise.race([written, gone])));
  } finally {
    qemu.kill('SIGKILL');
    control.close();
    await ended.catch(() => {});
  }
}

const templates = new Map<string, Promise<MigrationStream>>();

/** @throws InputError if there can be no such machine */
export function templateFor(hardware: Hardware): Promise<MigrationStream> {
  const { memory, disk } = hardware;
  const size = disk === undefined ? undefined : statSync(disk, { throwIfNoEntry: false })?.size;
  const kind = JSON.stringify([memory, disk, size]);
  const known = templates.get(kind);
  if (known) return known;
  const made = inFolder((folder) => makeTemplate(folder, hardware));
  templates.set(kind, made);
  made.catch(() => templates.delete(kind));
  return made;
}
