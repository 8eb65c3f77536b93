/* Blocks in the call that its argument names, and says how it ended. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char byte = 0;
    puts("ready");
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "sleep")) {
        struct timespec left = {0, 400 * 1000 * 1000};
        printf("nanosleep returned %d\n", nanosleep(&left, &left));
    } else {
        ssize_t got = read(0, &byte, 1);
        printf("read returned %zd: %c\n", got, byte);
    }
    return 0;
}
