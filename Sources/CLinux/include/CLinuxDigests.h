// MD5 (RFC 1321) of several streams side by side, a lane of the vector registers for each: the steps of one depend on each
// other and leave the processor idle most of the time.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { LARDER_MD5_LANES = 8, LARDER_MD5_BLOCK = 64 };

struct larder_md5_lanes {
    uint32_t words[4][LARDER_MD5_LANES];
};

void larder_md5_begin(struct larder_md5_lanes *state);

// Adds `count` blocks of 64 bytes to each lane whose pointer is not NULL; the others stay as they are.
void larder_md5_add(struct larder_md5_lanes *state, const uint8_t *const blocks[LARDER_MD5_LANES], size_t count);
