/** What Linux is made to do, and what it must answer, as data. */

import type { InitramfsName } from '../../guests/linux/initramfs.ts';
import type { Configuration } from '../../guests/linux/kernel.ts';
import { RUN_STATUS, type RunStatus } from '../../src/targets/target.ts';
import { ALL, FULL, type MachineName } from './machines.ts';

export interface Scenario {
  readonly title: string;
  readonly on: readonly MachineName[];
  /** The kernel's page tables; two-level ones unless it says otherwise. */
  readonly kernel?: Configuration;
  /** The first file system; without one the kernel finds no /init. */
  readonly initramfs?: InitramfsName;
  readonly memory?: string;
  /** Lines typed at the shell's prompt, each with what must be printed before the next one is typed. */
  readonly dialogue: readonly (readonly [typed: string, expected: RegExp])[];
  /** How long its lines take by themselves. */
  readonly seconds?: number;
  readonly status: RunStatus;
  /** Printed by the guest at its end, or by previrt. */
  readonly last?: RegExp;
}

/** Megabytes of memory that the guest sees, at least: the kernel keeps some for itself. */
const memoryTest = (least: number): readonly [string, RegExp] => [
  `awk '/^MemTotal/ { print ($2 > ${least * 1024}) ? "en" "ough" : "little" }' /proc/meminfo`,
  /enough/,
];

/** A file's contents: numbers from 1, a line each. */
const PATTERN = 'seq 200000';

/** Seconds of mixed load: by the environment as long as one likes. */
const LOAD_SECONDS = Number(process.env.PREVIRT_LOAD_SECONDS ?? 15);

export const POWER_OFF: Scenario['dialogue'][number] = ['poweroff -f', /Power down|System halted/];

export const SCENARIOS: readonly Scenario[] = [
  {
    title: 'a shell; power-off ends the run',
    on: ALL,
    initramfs: 'busybox',
    dialogue: [
      ['echo $((6 * 7))', /^42\r$/m],
      ['uname -sm', /^Linux i686\r$/m],
      ['cat /sys/devices/system/clocksource/clocksource0/current_clocksource', /^pit\r$/m],
      ['seq 1 20000 | md5sum', /^e071f707df7bbeee2a6a1eb48011ddd0/m],
      ['(sleep 1; echo back"ground") & wait', /^background\r$/m],
      ['sh -c "kill -SEGV \\$\\$"; echo $((128 + 11)) = $?', /^139 = 139\r$/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'pipelines, one after the other, lose nothing',
    on: ALL,
    initramfs: 'busybox',
    dialogue: [
      [
        'for i in $(seq 8); do seq 3000 | md5sum; done | sort | uniq -c; echo d"on"e',
        /^ +8 ee9762749fc5338b6c9b0948d14219c7 {2}-\r\ndone\r$/m,
      ],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    // An interrupt in the last instructions of a return to user code once left it with the trap flag set.
    title: 'two million system calls, the clock ticking in all of their instructions',
    on: ['hosted', 'qemu', 'xen'],
    initramfs: 'busybox',
    dialogue: [
      ['dd if=/dev/zero of=/dev/null bs=1 count=1000000; echo status $?', /^status 0\r$/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'Ctrl-C goes to the guest',
    on: ALL,
    initramfs: 'busybox',
    dialogue: [
      [`sh -c 'echo wai"ting"; exec sleep 1000'`, /^waiting\r$/m],
      ['\x03', /\^C/],
      ['echo $?', /^130\r$/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'a reboot ends the run',
    on: ALL,
    initramfs: 'busybox',
    dialogue: [['reboot -f', /Restarting system/]],
    status: RUN_STATUS.done,
  },
  {
    title: 'a panic ends the run and is told',
    on: ALL,
    dialogue: [],
    status: RUN_STATUS.panic,
    last: /Kernel panic - not syncing: VFS: Unable to mount root fs/,
  },
  {
    title: 'programs that link glibc dynamically',
    on: FULL,
    initramfs: 'glibc',
    dialogue: [
      ['exec bash --norc', /guest# /],
      ['echo $BASH_VERSION', /^5\.\d/m],
      ['/usr/bin/expr 6 \\* 7', /^42\r$/m],
      ['for i in $(/usr/bin/seq 50); do /bin/true & done; wait; echo d"on"e', /^done\r$/m],
      ['/usr/bin/seq 1 20000 | /usr/bin/md5sum', /^e071f707df7bbeee2a6a1eb48011ddd0/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: '32 MiB of memory',
    on: ALL,
    initramfs: 'busybox',
    memory: '32M',
    dialogue: [memoryTest(20), POWER_OFF],
    status: RUN_STATUS.done,
  },
  {
    title: '1 GiB of memory, 600 MiB of it written',
    on: FULL,
    initramfs: 'busybox',
    memory: '1G',
    seconds: 60,
    dialogue: [
      memoryTest(700),
      [
        'mount -o remount,size=800M /tmp; dd if=/dev/zero of=/tmp/f bs=1M count=600; echo $((5 * 5))',
        /^25\r$/m,
      ],
      ['wc -c < /tmp/f', /^629145600\r$/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'a kernel with PAE page tables, its high memory, processes and programs',
    on: ['hosted', 'qemu', 'xen'],
    kernel: 'pae',
    initramfs: 'glibc',
    memory: '1G',
    dialogue: [
      [
        'awk \'/^(HighTotal|DirectMap2M)/ { print $1, ($2 > 0) ? "so" "me" : "none" }\' /proc/meminfo',
        /^HighTotal: some\r\nDirectMap2M: some\r$/m,
      ],
      memoryTest(900),
      [
        'mount -o remount,size=300M /tmp; dd if=/dev/zero of=/tmp/f bs=1M count=200; wc -c < /tmp/f',
        /^209715200\r$/m,
      ],
      ['rm /tmp/f; /usr/bin/seq 1 20000 | /usr/bin/md5sum', /^e071f707df7bbeee2a6a1eb48011ddd0/m],
      ['for i in $(seq 50); do /bin/true & done; wait; echo d"on"e', /^done\r$/m],
      ['stress scatter 200', /^stress: ok\r$/m],
      ['stress load 5', /^stress: ok\r$/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'modules of the kernel and of others: loaded, used, unloaded',
    on: ['hosted', 'qemu', 'xen'],
    kernel: 'modules',
    initramfs: 'modules',
    dialogue: [
      ['dmesg -n 8; insmod /lib/every.ko', /every: init: \d+ operations, 0 fail/],
      ['rmmod every', /every: exit: \d+ operations, 0 fail/],
      [
        'for m in minix loop libsha256 sha256_generic dummy; do insmod /lib/$m.ko; done; wc -l < /proc/modules',
        /^5\r$/m,
      ],
      ['grep -A4 sha256-generic /proc/crypto', /selftest +: passed/],
      [
        'cp /lib/minix.img /tmp; losetup /dev/loop0 /tmp/minix.img; mkdir /m; mount -t minix /dev/loop0 /m; seq 9999 > /m/f; umount /m; mount -t minix /dev/loop0 /m; md5sum < /m/f',
        /^05fda6bec6aabc94d0fc54380ace8412/m,
      ],
      ['echo 1234 > /sys/class/net/dummy0/mtu; cat /sys/class/net/dummy0/mtu', /^1234\r$/m],
      [
        'umount /m; losetup -d /dev/loop0; rmmod minix loop sha256_generic libsha256 dummy; wc -l < /proc/modules',
        /^0\r$/m,
      ],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'a module that lies about its sites is not loaded, and nothing is written',
    on: ['hosted', 'xen'],
    kernel: 'modules',
    initramfs: 'modules',
    dialogue: [
      [
        'dmesg -n 8; for m in /lib/bad/*.ko; do insmod $m; done; cat /proc/modules; echo n"one"',
        /(invalid module format[\s\S]*){8}^none\r$/m,
      ],
      ['insmod /lib/every.ko', /every: init: \d+ operations, 0 fail/],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
    last: /(is refused: [\s\S]*){16}/,
  },
  {
    title: 'a module without sites is loaded, and traps',
    on: ['hosted', 'qemu', 'xen'],
    kernel: 'modules',
    initramfs: 'modules',
    dialogue: [
      ['dmesg -n 8; insmod /lib/plain.ko', /every: init: \d+ operations, 0 fail/],
      ['rmmod every', /every: exit: \d+ operations, 0 fail/],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: 'a module, a thousand times loaded and unloaded, under load',
    on: ['hosted', 'qemu', 'xen'],
    kernel: 'modules',
    initramfs: 'modules',
    seconds: 120,
    dialogue: [
      ['(while :; do seq 3000 | md5sum > /dev/null; done) & dmesg -n 8', /guest# /],
      [
        'for i in $(seq 1000); do insmod /lib/every.ko quiet=1 && rmmod every || break; done; echo $i ti"mes"; kill $!',
        /^1000 times\r$/m,
      ],
      ['dmesg | grep -c "every: .* fail"', /^0\r$/m],
      POWER_OFF,
    ],
    status: RUN_STATUS.done,
  },
  {
    title: '700 MiB of a process, touched in scattered order',
    on: ['hosted', 'qemu', 'xen'],
    initramfs: 'glibc',
    memory: '1G',
    dialogue: [['stress scatter 700', /^stress: ok\r$/m], POWER_OFF],
    status: RUN_STATUS.done,
  },
  {
    title: `mixed load, ${LOAD_SECONDS} s of it`,
    on: ['hosted', 'qemu', 'xen'],
    initramfs: 'glibc',
    seconds: LOAD_SECONDS,
    dialogue: [[`stress load ${LOAD_SECONDS}`, /^stress: ok\r$/m], POWER_OFF],
    status: RUN_STATUS.done,
  },
];

/** Mounts the disk, which holds the file `given`, and writes the file `made`. */
export const DISK_DIALOGUE: Scenario['dialogue'] = [
  ['mkdir -p /mnt && mount -t ext2 /dev/vda /mnt && cat /mnt/given', /^from the host\r$/m],
  [
    `${PATTERN} > /mnt/made; mkdir /mnt/dir; for i in $(seq 100); do echo $i > /mnt/dir/$i; done; echo w"as"`,
    /^was\r$/m,
  ],
  ['sync; echo 3 > /proc/sys/vm/drop_caches; wc -c < /mnt/made', /^1288895\r$/m],
  [`${PATTERN} | cmp - /mnt/made && echo s"am"e`, /^same\r$/m],
  ['umount /mnt && echo umou"nted"', /^umounted\r$/m],
  POWER_OFF,
];

/** What DISK_DIALOGUE writes to `made`. */
export const diskPattern = (): string => Array.from({ length: 200_000 }, (_, index) => index + 1).join('\n');
