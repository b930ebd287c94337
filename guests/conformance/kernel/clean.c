/* Undoes what a test may have left behind, so that the next one begins with a known machine. */
#include "guest.h"

void load_gdt(void);
void load_idt(void);
void load_task(void);
void paging_init(void);

void devices_init(void) {
    outb(0x20, 0x11); /* ICW1: edge, cascade, ICW4 */
    outb(0x21, IRQ_VECTOR);
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0xa0, 0x11);
    outb(0xa1, IRQ_VECTOR + 8);
    outb(0xa1, 2);
    outb(0xa1, 1);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    outb(0x3f9, 0);    /* no interrupts from the UART */
    outb(0x3fc, 0x0b); /* no loopback */
    outb(0x70, 0x0b);
    outb(0x71, 2); /* no interrupts from the clock, 24 hours */
    outb(0x43, 0x30);
    outb(0x40, 0); /* the timer fires once at most */
    outb(0x40, 0);
}

void clean_up(void) {
    cli();
    abandon_run();
    for (u32 i = 0; i < ARRAY_SIZE(hooks); i++)
        hooks[i] = NULL;
    set_user_segments(0, 0);
    if (read_cr4() & CR4_PAE) {
        write_cr0(CR0_VALUE & ~CR0_PG);
        write_cr4(CR4_VALUE);
        write_cr3((u32)page_directory);
    }
    write_cr0(CR0_VALUE);
    write_cr3((u32)page_directory);
    tables_init();
    load_gdt();
    load_idt();
    load_task();
    memset(window_table, 0, sizeof window_table);
    page_directory[BIG_WINDOW >> 22] = 0;
    page_directory[(BIG_WINDOW >> 22) + 1] = 0;
    write_cr4(CR4_VALUE & ~CR4_PGE); /* with a change of PGE global translations go as well */
    write_cr4(CR4_VALUE);
    devices_init();
}
