#include "textflag.h"

// func readTSC() uint64
// LFENCE keeps the read from moving before the clock reading ahead of it.
TEXT ·readTSC(SB), NOSPLIT, $0-8
	LFENCE
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
