// Counts heap allocations of the calling thread. Linked into a test program, its malloc(3) takes the place of glibc's for
// everything in the process, Swift's runtime included.
#pragma once
#include <stdint.h>

uint64_t allocation_count_of_this_thread(void);
