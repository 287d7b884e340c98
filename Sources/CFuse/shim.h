// FUSE's kernel structures newer than Debian 12's headers, and what Swift cannot import from libfuse.
#pragma once
#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
