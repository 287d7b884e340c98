// FUSE's kernel structures newer than Debian 12's headers, and what Swift cannot import from libfuse.
#pragma once
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

// The wire structures of include/uapi/linux/fuse.h that INIT, OPEN and CREATE need (passthrough: Linux 6.9).
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
struct larder_fuse_attr {
    uint64_t ino, size, blocks, atime, mtime, ctime;
    uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};
struct larder_fuse_entry_out {
    uint64_t nodeid, generation, entry_valid, attr_valid;
    uint32_t entry_valid_nsec, attr_valid_nsec;
    struct larder_fuse_attr attr;
};
struct larder_fuse_create_out {
    struct larder_fuse_entry_out entry;
    struct larder_fuse_open_out open;
};
_Static_assert(sizeof(struct larder_fuse_create_out) == 144, "struct fuse_entry_out and fuse_open_out");
_Static_assert(sizeof(struct larder_fuse_in_header) == 40, "struct fuse_in_header");
_Static_assert(sizeof(struct larder_fuse_init_out) == 64, "struct fuse_init_out");
_Static_assert(sizeof(struct larder_fuse_open_out) == 16, "struct fuse_open_out");

enum {
    LARDER_FUSE_OP_INIT = 26,
    LARDER_FUSE_NOTIFY_RESEND = 7,
    LARDER_FUSE_PARALLEL_DIROPS = 1u << 18,
    LARDER_FUSE_HANDLE_KILLPRIV_V2 = 1u << 28,
    LARDER_FUSE_INIT_EXT = 1u << 30,
    LARDER_FUSE_DIRECT_IO_ALLOW_MMAP_FLAGS2 = 1u << (36 - 32),
    LARDER_FUSE_PASSTHROUGH_FLAGS2 = 1u << (37 - 32),
    LARDER_FUSE_HAS_RESEND_FLAGS2 = 1u << (39 - 32),  // Linux 6.9
    LARDER_FOPEN_DIRECT_IO = 1u << 0,
    LARDER_FOPEN_KEEP_CACHE = 1u << 1,
    LARDER_FOPEN_NOFLUSH = 1u << 5,
    LARDER_FOPEN_PASSTHROUGH = 1u << 7,
};

// The session's userdata. The hooks below see it from libfuse's threads; only the thread that serves INIT writes it.
struct larder_fuse_context {
    void *bridge, *session;  // the Swift objects
    uint64_t init_unique;    // of the INIT request being answered, else 0
    uint32_t init_length;
    int wants_passthrough;
    uint32_t offered_flags, offered_flags2;  // by the kernel in INIT
    int has_passthrough;     // after INIT: what the kernel was told
    int has_resend;          // after INIT: the kernel can send again what was not answered
    uint32_t kernel_minor;
    // The kernel's INIT request: its length in 4 bytes, then its bytes, for `saved_capacity` bytes in all; outlives this process.
    void *saved;
    size_t saved_capacity;
    int replays;             // INIT comes from `saved`: the kernel had its answer from a process before this one
};

// libfuse 3.14 knows neither passthrough nor some other flags, and forgets to tell the kernel of parallel directory operations (without which one
// lookup that waits for a store holds back all others of its directory), so its INIT reply is completed on the way.
static inline ssize_t larder_fuse_read(int fd, void *buffer, size_t length, void *user) {
    struct larder_fuse_context *context = user;
    ssize_t count;
    if (context->replays && !context->init_unique) {
        uint32_t saved = 0;
        memcpy(&saved, context->saved, sizeof saved);
        if (saved > length) return -EIO;
        memcpy(buffer, (char *)context->saved + sizeof saved, saved);
        count = saved;
    } else {
        count = read(fd, buffer, length);
    }
    const struct larder_fuse_in_header *in = buffer;
    if (count < (ssize_t)sizeof *in || in->opcode != LARDER_FUSE_OP_INIT) return count;
    if (!context->replays && (size_t)count + sizeof(uint32_t) <= context->saved_capacity)
        memcpy((char *)context->saved + sizeof(uint32_t), buffer, (size_t)count);
    struct larder_fuse_init_in init = {0};
    size_t body = (size_t)count - sizeof *in;
    memcpy(&init, in + 1, body < sizeof init ? body : sizeof init);
    context->init_unique = in->unique;
    context->kernel_minor = init.minor;
    context->offered_flags = init.flags;
    context->offered_flags2 = init.flags & LARDER_FUSE_INIT_EXT ? init.flags2 : 0;
    int offered = (init.flags & LARDER_FUSE_INIT_EXT) && (init.flags2 & LARDER_FUSE_PASSTHROUGH_FLAGS2);
    context->has_passthrough = context->wants_passthrough && offered;
    context->has_resend = (context->offered_flags2 & LARDER_FUSE_HAS_RESEND_FLAGS2) &&
        (size_t)count + sizeof(uint32_t) <= context->saved_capacity;
    context->init_length = (uint32_t)count;
    return count;
}

static inline ssize_t larder_fuse_writev(int fd, struct iovec *parts, int count, void *user) {
    struct larder_fuse_context *context = user;
    const struct larder_fuse_out_header *out = parts[0].iov_base;
    if (context->init_unique && out->unique == context->init_unique) {
        context->init_unique = 0;
        if (context->replays) {
            context->replays = 0;
            ssize_t total = 0;
            for (int i = 0; i < count; i++) total += (ssize_t)parts[i].iov_len;
            return total;
        }
        if (out->error || count < 2 || parts[1].iov_len < sizeof(struct larder_fuse_init_out)) {
            context->has_passthrough = 0;
            return writev(fd, parts, count);
        }
        struct larder_fuse_init_out *init = parts[1].iov_base;
        // Killing set-user-id bits ourselves spares a GETXATTR of security.capability with each write.
        init->flags |= context->offered_flags & (LARDER_FUSE_PARALLEL_DIROPS | LARDER_FUSE_HANDLE_KILLPRIV_V2);
        // Shared maps of files that the kernel must not keep pages of otherwise (Linux 6.6).
        uint32_t flags2 = context->offered_flags2 & LARDER_FUSE_DIRECT_IO_ALLOW_MMAP_FLAGS2;
        if (flags2) {
            init->flags |= LARDER_FUSE_INIT_EXT;
            init->flags2 |= flags2;
        }
        if (context->has_passthrough) {
            init->flags |= LARDER_FUSE_INIT_EXT;
            init->flags2 |= LARDER_FUSE_PASSTHROUGH_FLAGS2;
            init->max_stack_depth = 1;
        }
        if (context->has_resend) {
            init->flags |= LARDER_FUSE_INIT_EXT;
            init->flags2 |= LARDER_FUSE_HAS_RESEND_FLAGS2;
        }
        ssize_t written = writev(fd, parts, count);
        // From here on another process can go on: the length says so.
        if (written >= 0 && context->has_resend)
            __atomic_store_n((uint32_t *)context->saved, context->init_length, __ATOMIC_RELEASE);
        return written;
    }
    return writev(fd, parts, count);
}

// Has the kernel send again, first of all, what was read and not answered. Returns 0 or -errno.
static inline int larder_fuse_resend(int fd) {
    struct larder_fuse_out_header out = {.len = sizeof out, .error = LARDER_FUSE_NOTIFY_RESEND};
    return write(fd, &out, sizeof out) < 0 ? -errno : 0;
}

// The number of the request that a receive has put into `buffer`; 0 for what is none.
static inline uint64_t larder_fuse_unique(const struct fuse_buf *buffer, int count) {
    const struct larder_fuse_in_header *in = buffer->mem;
    return count >= (int)sizeof *in ? in->unique : 0;
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

// Bit fields.
static inline int larder_fuse_is_writeback(const struct fuse_file_info *info) { return info->writepage; }

// A reply to CREATE that can carry a backing id.
static inline int larder_fuse_reply_create(
    fuse_req_t request, const struct fuse_entry_param *entry, const struct larder_fuse_open_out *open) {
    double limit = 1e9, timeout = entry->attr_timeout < limit ? entry->attr_timeout : limit;
    const struct stat *attr = &entry->attr;
    struct larder_fuse_create_out out = {
        .entry = {
            .nodeid = entry->ino,
            .entry_valid = (uint64_t)timeout,
            .attr_valid = (uint64_t)timeout,
            .entry_valid_nsec = (uint32_t)((timeout - (double)(uint64_t)timeout) * 1e9),
            .attr_valid_nsec = (uint32_t)((timeout - (double)(uint64_t)timeout) * 1e9),
            .attr = {
                .ino = attr->st_ino, .size = (uint64_t)attr->st_size, .blocks = (uint64_t)attr->st_blocks,
                .atime = (uint64_t)attr->st_atim.tv_sec, .mtime = (uint64_t)attr->st_mtim.tv_sec,
                .ctime = (uint64_t)attr->st_ctim.tv_sec, .atimensec = (uint32_t)attr->st_atim.tv_nsec,
                .mtimensec = (uint32_t)attr->st_mtim.tv_nsec, .ctimensec = (uint32_t)attr->st_ctim.tv_nsec,
                .mode = attr->st_mode, .nlink = (uint32_t)attr->st_nlink, .uid = attr->st_uid, .gid = attr->st_gid,
                .blksize = (uint32_t)attr->st_blksize,
            },
        },
        .open = *open,
    };
    return fuse_reply_buf(request, (const char *)&out, sizeof out);
}
