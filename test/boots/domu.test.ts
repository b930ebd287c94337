import { playOn } from './play.ts';

playOn('domU');
