/** The configuration of a domain for Xen's toolstack, xl.cfg(5). Pure: values to text. */

export interface XlConfig {
  readonly name: string;
  /** Path of the burned image, on the host that runs it. */
  readonly kernel: string;
  /** Path of an initrd that is not part of the image. */
  readonly ramdisk?: string | undefined;
  /** Bytes. */
  readonly memory: number;
  /** The kernel's command line. */
  readonly commandLine: string;
  /** Path of a block device, or of a raw image, that the guest has as its disk. */
  readonly disk?: string | undefined;
  /** What becomes of the domain when it ends, however it does; without it what the toolstack does by itself. */
  readonly atEnd?: 'preserve' | undefined;
}

const MiB = 2 ** 20;

/** A string in xl's syntax: what is not printable as a byte's number. */
function quoted(text: string): string {
  const bytes = [...Buffer.from(text)].map((byte) => {
    const character = String.fromCharCode(byte);
    if (character === '"' || character === '\\') return `\\${character}`;
    return byte < 0x20 || byte > 0x7e ? `\\${byte.toString(8).padStart(3, '0')}` : character;
  });
  return `"${bytes.join('')}"`;
}

/** A list of disks: xl takes them as words of their own in a string; xl-disk-configuration(5). */
const disks = (path: string): string => `[ ${quoted(`format=raw, vdev=xvda, access=rw, target=${path}`)} ]`;

/** The text of the file. */
export function xlConfig(config: XlConfig): string {
  const settings: [string, string | undefined][] = [
    ['name', quoted(config.name)],
    ['type', quoted('pv')],
    ['kernel', quoted(config.kernel)],
    ['ramdisk', config.ramdisk && quoted(config.ramdisk)],
    ['extra', config.commandLine && quoted(config.commandLine)],
    ['memory', String(Math.ceil(config.memory / MiB))],
    ['vcpus', '1'],
    ['disk', config.disk && disks(config.disk)],
    ...['on_poweroff', 'on_reboot', 'on_crash'].map((event): [string, string | undefined] => [
      event,
      config.atEnd && quoted(config.atEnd),
    ]),
  ];
  return settings.flatMap(([name, value]) => (value ? [`${name} = ${value}\n`] : [])).join('');
}
