/*
 * Two-level page tables: the first megabytes identity-mapped for the kernel,
 * the user program at USER_CODE, and windows whose pages belong to the tests.
 */
#include "guest.h"

#define TABLE __attribute__((section(".page_tables"), aligned(4096)))

u32 page_directory[1024] TABLE = {0};
u32 other_directory[1024] TABLE = {0};
u32 window_table[1024] TABLE = {0};
u32 second_table[1024] TABLE = {0};
static u32 identity_tables[IDENTITY_END >> 22][1024] TABLE = {{0}};
static u32 user_table[1024] TABLE = {0};
static u8 user_stack[PAGE_SIZE] TABLE = {0};
u8 user_data[PAGE_SIZE] TABLE = {0};

extern u8 user_image[], user_image_end[];

u32 *pde(u32 address) { return &page_directory[address >> 22]; }

u32 *pte(u32 address) {
    u32 *table = (u32 *)(*pde(address) & ~0xfffu);
    return &table[address >> 12 & 1023];
}

void map(u32 address, u32 frame, u32 flags) {
    *pte(address) = frame | flags;
    invlpg(address);
}

void unmap(u32 address) { map(address, 0, 0); }

static void map_user(u32 address, void *frame) {
    user_table[address >> 12 & 1023] = (u32)frame | PTE_P | PTE_W | PTE_U;
}

void paging_init(void) {
    for (u32 address = IDENTITY_START; address < IDENTITY_END; address += PAGE_SIZE)
        identity_tables[address >> 22][address >> 12 & 1023] = address | PTE_P | PTE_W;
    for (u32 i = 0; i < ARRAY_SIZE(identity_tables); i++)
        page_directory[i] = (u32)identity_tables[i] | PTE_P | PTE_W;

    for (u32 offset = 0; user_image + offset < user_image_end; offset += PAGE_SIZE)
        map_user(USER_CODE + offset, user_image + offset);
    map_user(USER_STACK_TOP - PAGE_SIZE, user_stack);
    map_user(USER_DATA, user_data);
    page_directory[USER_CODE >> 22] = (u32)user_table | PTE_P | PTE_W | PTE_U;
    page_directory[WINDOW >> 22] = (u32)window_table | PTE_P | PTE_W | PTE_U;
    memcpy(other_directory, page_directory, sizeof page_directory);
}

void paging_enable(void) {
    write_cr4(CR4_VALUE);
    write_cr3((u32)page_directory);
    write_cr0(CR0_VALUE);
}
