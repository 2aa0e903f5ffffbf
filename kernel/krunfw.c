/*
 * libkrunfw's interface (ABI 5) around our kernel, so that tools which only know libkrunfw boot it. The library's
 * kernel is mapped into the guest as it lies here: page-aligned for any page size up to 64 KiB, and writable, since
 * the guest writes to its own data. KERNEL_FILE, LOAD_ADDRESS and ENTRY_ADDRESS come from kernel/krunfw.ts.
 */
#include <stddef.h>
#include <stdint.h>

__asm__(".pushsection .data.kernel, \"aw\"\n"
        ".balign 65536\n"
        ".hidden gateway_kernel\n"
        ".globl gateway_kernel\n"
        "gateway_kernel:\n"
        ".incbin \"" KERNEL_FILE "\"\n"
        ".hidden gateway_kernel_end\n"
        ".globl gateway_kernel_end\n"
        "gateway_kernel_end:\n"
        ".popsection\n");

extern char gateway_kernel[], gateway_kernel_end[];

#define EXPORTED __attribute__((visibility("default")))

EXPORTED char *krunfw_get_kernel(uint64_t *load_address, uint64_t *entry_address, size_t *size)
{
	*load_address = LOAD_ADDRESS;
	*entry_address = ENTRY_ADDRESS;
	*size = gateway_kernel_end - gateway_kernel;
	return gateway_kernel;
}

EXPORTED uint32_t krunfw_get_version(void)
{
	return 5;
}
