import { playOn } from './play.ts';

playOn('v86');
