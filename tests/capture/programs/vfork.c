/* Its parent is in an uninterruptible sleep until the child has read a byte. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char byte;
    if (vfork() == 0) {
        (void)!write(1, "ready\n", 6);
        (void)!read(0, &byte, 1);
        _exit(0);
    }
    puts("parent goes on");
    return 0;
}
