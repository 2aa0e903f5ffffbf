/*
 * A libkrunfw whose kernel is two pages of letters. NO_TSI leaves out the word by which TSI is known.
 */
#include <stddef.h>
#include <stdint.h>

static char kernel[8192] = "a kernel"
#ifndef NO_TSI
                           " with tsi_hijack"
#endif
    ;

char *krunfw_get_kernel(uint64_t *load, uint64_t *entry, size_t *size) {
    *load = 0x1000000;
    *entry = 0x1000123;
    *size = sizeof kernel;
    kernel[sizeof kernel - 1] = 'z';
    return kernel;
}
