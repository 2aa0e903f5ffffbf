/* Boots libkrun's bundled kernel (libkrunfw) with a root folder and one program; a tool that only knows libkrunfw. */
#include <stdint.h>
#include <stdio.h>

extern int32_t krun_create_ctx(void);
extern int32_t krun_disable_implicit_vsock(uint32_t);
extern int32_t krun_set_vm_config(uint32_t, uint8_t, uint32_t);
extern int32_t krun_set_root(uint32_t, const char *);
extern int32_t krun_set_exec(uint32_t, const char *, const char *const *, const char *const *);
extern int32_t krun_start_enter(uint32_t);

int main(void)
{
	const char *const words[] = {"-c", "echo INNER $$ $(busybox uname -r); exit 7", 0};
	const char *const environment[] = {"PATH=/bin", 0};
	int32_t context = krun_create_ctx();

	if (context < 0 || krun_disable_implicit_vsock(context) || krun_set_vm_config(context, 1, 256) ||
	    krun_set_root(context, "/inner") || krun_set_exec(context, "/bin/sh", words, environment))
		return 98;
	printf("start %d\n", krun_start_enter(context));
	return 99;
}
