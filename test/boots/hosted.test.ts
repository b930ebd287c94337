import { playOn } from './play.ts';

playOn('hosted');
