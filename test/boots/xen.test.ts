import { playOn } from './play.ts';

playOn('xen');
