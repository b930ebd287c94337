/* Executes an instruction that nothing else does, so that a counter outside knows where the guest is. */
void _start(void)
{
    __asm__ volatile("xchg %%bx, %%bx\n\t" /* 66 87 db */
                     "movl $1, %%eax\n\t"  /* exit(0) */
                     "xorl %%ebx, %%ebx\n\t"
                     "int $0x80" ::
                         : "eax", "ebx", "memory");
    __builtin_unreachable();
}
