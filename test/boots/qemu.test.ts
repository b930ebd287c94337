import { playOn } from './play.ts';

playOn('qemu');
