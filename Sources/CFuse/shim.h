// FUSE's kernel structures newer than Debian 12's headers, and what Swift cannot import from libfuse.
#pragma once
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

// The wire structures of include/uapi/linux/fuse.h that INIT and OPEN need (passthrough: Linux 6.9).
struct larder_fuse_in_header {
    uint32_t len, opcode;
    uint64_t unique, nodeid;
    uint32_t uid, gid, pid, padding;
};
struct larder_fuse_out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};
struct larder_fuse_init_in {
    uint32_t major, minor, max_readahead, flags, flags2;
};
struct larder_fuse_init_out {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2, max_stack_depth, unused[6];
};
struct larder_fuse_open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
};
_Static_assert(sizeof(struct larder_fuse_in_header) == 40, "struct fuse_in_header");
_Static_assert(sizeof(struct larder_fuse_init_out) == 64, "struct fuse_init_out");
_Static_assert(sizeof(struct larder_fuse_open_out) == 16, "struct fuse_open_out");

enum {
    LARDER_FUSE_OP_INIT = 26,
    LARDER_FUSE_PARALLEL_DIROPS = 1u << 18,
    LARDER_FUSE_INIT_EXT = 1u << 30,
    LARDER_FUSE_PASSTHROUGH_FLAGS2 = 1u << (37 - 32),
    LARDER_FOPEN_PASSTHROUGH = 1u << 7,
};

// The session's userdata. The hooks below see it from libfuse's threads; only the thread that serves INIT writes it.
struct larder_fuse_context {
    void *bridge, *session;  // the Swift objects
    uint64_t init_unique;    // of the INIT request being answered, else 0
    int wants_passthrough;
    uint32_t offered_flags;  // by the kernel in INIT
    int has_passthrough;     // after INIT: what the kernel was told
    uint32_t kernel_minor;
};

// libfuse 3.14 knows no passthrough, and forgets to tell the kernel of parallel directory operations (without which one
// lookup that waits for a store holds back all others of its directory), so its INIT reply is completed on the way.
static inline ssize_t larder_fuse_read(int fd, void *buffer, size_t length, void *user) {
    struct larder_fuse_context *context = user;
    ssize_t count = read(fd, buffer, length);
    const struct larder_fuse_in_header *in = buffer;
    if (count < (ssize_t)sizeof *in || in->opcode != LARDER_FUSE_OP_INIT) return count;
    struct larder_fuse_init_in init = {0};
    size_t body = (size_t)count - sizeof *in;
    memcpy(&init, in + 1, body < sizeof init ? body : sizeof init);
    context->init_unique = in->unique;
    context->kernel_minor = init.minor;
    context->offered_flags = init.flags;
    int offered = (init.flags & LARDER_FUSE_INIT_EXT) && (init.flags2 & LARDER_FUSE_PASSTHROUGH_FLAGS2);
    context->has_passthrough = context->wants_passthrough && offered;
    return count;
}

static inline ssize_t larder_fuse_writev(int fd, struct iovec *parts, int count, void *user) {
    struct larder_fuse_context *context = user;
    const struct larder_fuse_out_header *out = parts[0].iov_base;
    if (context->init_unique && out->unique == context->init_unique) {
        context->init_unique = 0;
        if (out->error || count < 2 || parts[1].iov_len < sizeof(struct larder_fuse_init_out)) {
            context->has_passthrough = 0;
            return writev(fd, parts, count);
        }
        struct larder_fuse_init_out *init = parts[1].iov_base;
        init->flags |= context->offered_flags & LARDER_FUSE_PARALLEL_DIROPS;
        if (context->has_passthrough) {
            init->flags |= LARDER_FUSE_INIT_EXT;
            init->flags2 |= LARDER_FUSE_PASSTHROUGH_FLAGS2;
            init->max_stack_depth = 1;
        }
    }
    return writev(fd, parts, count);
}

// The hooks' and the macro's types do not import.
static inline struct fuse_session *larder_fuse_session_new(
    const struct fuse_lowlevel_ops *operations, struct larder_fuse_context *context, int fd) {
    char *arguments[] = {(char *)"larder", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
    struct fuse_session *session = fuse_session_new(&args, operations, sizeof *operations, context);
    fuse_opt_free_args(&args);
    if (!session) return NULL;
    static const struct fuse_custom_io io = {.writev = larder_fuse_writev, .read = larder_fuse_read};
    int error = fuse_session_custom_io(session, &io, fd);
    if (error) {
        fuse_session_destroy(session);
        errno = error < 0 ? -error : error;
        return NULL;
    }
    return session;
}

// An anonymous bit field.
static inline void larder_fuse_set_keep_cache(struct fuse_file_info *info, int keep) { info->keep_cache = keep != 0; }
