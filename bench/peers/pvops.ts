/** Linux as Xen people ported it by hand: Debian's amd64 kernel, as initial domain and on the bare PC of QEMU. */

import { buildDom0 } from '../../guests/xen/dom0.ts';
import { buildXen } from '../../guests/xen/hypervisor.ts';
import { buildArchive } from '../archive.ts';
import { MEMORY, type Peer } from './peer.ts';

const QEMU = 'qemu-system-x86_64';
const MACHINE = [
  ...['-M', 'pc', '-cpu', 'qemu64', '-accel', 'tcg', '-nodefaults', '-no-user-config'],
  ...['-display', 'none', '-no-reboot', '-serial', 'stdio'],
];
/** Xen and the kernel as it is loaded take some, too. */
const XEN_MEMORY = '768M';
/** Without them on both sides, as the i386 kernel is: they cost a bare kernel more than one on Xen. */
const ARGUMENTS = 'mitigations=off quiet panic=-1';

/** Xen halts when its initial domain powers off, but resets when that reboots. */
const ending = (script: string): string => `${script}reboot -f\n`;

const quote = (text: string): string => text.replaceAll(',', ',,');

export const pvopsBare: Peer = {
  name: 'pv-ops bare',
  width: 64,
  async command(script) {
    const { kernel } = await buildDom0();
    const initrd = await buildArchive(64, ending(script));
    const boot = ['-kernel', kernel, '-initrd', initrd, '-append', `console=ttyS0 ${ARGUMENTS}`];
    return { program: QEMU, args: [...MACHINE, '-m', MEMORY, ...boot] };
  },
};

export const pvopsXen: Peer = {
  name: 'pv-ops on Xen',
  width: 64,
  async command(script) {
    const { kernel } = await buildDom0();
    const initrd = await buildArchive(64, ending(script));
    const modules = [`${kernel} console=hvc0 ${ARGUMENTS}`, initrd].map(quote).join(',');
    const options = `com1=115200,8n1 console=com1 dom0_mem=${MEMORY},max:${MEMORY}`;
    return {
      program: QEMU,
      args: [
        ...MACHINE,
        ...['-m', XEN_MEMORY, '-kernel', await buildXen('4.17'), '-append', options, '-initrd', modules],
      ],
    };
  },
};
