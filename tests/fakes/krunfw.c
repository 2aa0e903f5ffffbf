/* A libkrunfw whose kernel is asked for once: it ends the process with 42, which shows that it was found. */
#include <unistd.h>
char *krunfw_get_kernel(void) { _exit(42); }
