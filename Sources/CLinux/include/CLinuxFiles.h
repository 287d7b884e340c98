// Changing files relative to a directory descriptor. Results as in CLinux.h: a value, or -errno.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Names are one component; none of these follows a symbolic link at its end.
int larder_make_directory(int directory, const char *name, unsigned mode);
int larder_make_node(int directory, const char *name, unsigned mode, uint64_t device);
int larder_make_link(int directory, const char *name, const char *target);
int larder_make_hard_link(int from, const char *name, int to, const char *new_name);
int larder_remove(int directory, const char *name, int flags);
int larder_rename(int from, const char *name, int to, const char *new_name, unsigned flags);  // renameat2(2)

// Of the file that `fd` (O_PATH or opened) is, also a symbolic link. An id of UINT32_MAX stays as it is.
int larder_change_owner(int fd, uint32_t uid, uint32_t gid);
// Nanoseconds may be UTIME_NOW or UTIME_OMIT.
int larder_change_times(int fd, int64_t accessed, long accessed_nanoseconds, int64_t modified, long modified_nanoseconds);
// chmod(2) by way of /proc/self/fd, which O_PATH descriptors need before fchmodat2(2) of Linux 6.6; never of a link.
int larder_change_mode(int fd, unsigned mode);
// open(2) of the same file anew; never of a link.
int larder_reopen(int fd, int flags);

// Extended attributes. With `link` NULL, of the file (no link) that `fd` (O_PATH or opened) is, by way of /proc/self/fd;
// else of the entry `link` of the directory `fd`, also a symbolic link (Linux 6.13; -ENOTSUP before).
ssize_t larder_getxattr_at(int fd, const char *link, const char *name, void *value, size_t capacity);
ssize_t larder_listxattr_at(int fd, const char *link, void *names, size_t capacity);
int larder_setxattr_at(int fd, const char *link, const char *name, const void *value, size_t length, int flags);
int larder_removexattr_at(int fd, const char *link, const char *name);

// O_DIRECT and O_NOATIME, which fcntl.h defines only under _GNU_SOURCE; the first differs between architectures.
#if defined(__aarch64__) || defined(__arm__)
enum { LARDER_O_DIRECT = 0200000 };
#else
enum { LARDER_O_DIRECT = 040000 };
#endif
enum { LARDER_O_NOATIME = 01000000 };

enum { LARDER_RENAME_NOREPLACE = 1, LARDER_RENAME_EXCHANGE = 2 };
int larder_fallocate(int fd, int mode, uint64_t offset, uint64_t length);  // declared only under _GNU_SOURCE

// What a thread was before `larder_identity_take`.
struct larder_identity;

// Makes this thread alone (raw calls: glibc's change every thread) access files as `uid` and `gid`, with no
// supplementary groups, and with those of its effective capabilities that `capabilities` has.
// Every success is followed by `larder_identity_return`; after an error the thread is what it was.
int larder_identity_take(uint32_t uid, uint32_t gid, uint64_t capabilities, struct larder_identity **saved);
void larder_identity_return(struct larder_identity *saved);
