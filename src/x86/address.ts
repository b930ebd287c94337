/**
 * Address kinds as types of their own, so that a guest-physical address can
 * never be passed where a guest-virtual one is meant. All are byte addresses
 * held in a JavaScript number (exact to 2^53; an i386 guest needs 2^32).
 */

declare const kind: unique symbol;

/** An address as the guest's code sees it, after segmentation: Intel SDM "linear". */
export type GuestVirtual = number & { readonly [kind]: 'guest-virtual' };

/** An offset into guest RAM as the virtual PC's bus sees it: Intel SDM "physical". */
export type GuestPhysical = number & { readonly [kind]: 'guest-physical' };

/** An offset from the start of a file. */
export type FileOffset = number & { readonly [kind]: 'file-offset' };

export const guestVirtual = (value: number): GuestVirtual => value as GuestVirtual;
export const guestPhysical = (value: number): GuestPhysical => value as GuestPhysical;
export const fileOffset = (value: number): FileOffset => value as FileOffset;
