// Processes, terminals and mounts, for the command line. Results as in CLinux.h: a value, or -errno.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// What a started process gets. A descriptor of -1 means /dev/null for 0…2, and none for 3.
struct larder_spawn_plan {
    int standard_input, standard_output, standard_error;
    int status;                // becomes descriptor 3
    int new_session;           // setsid(2): outlives the terminal
    const char *directory;     // working directory, or NULL for the caller's
};

// posix_spawn(3) with no signal blocked or ignored, and no other descriptor of the caller. Returns the process id.
int larder_spawn(const char *program, char *const arguments[], char *const environment[],
                 const struct larder_spawn_plan *plan);

ssize_t larder_getxattr(const char *path, const char *name, void *value, size_t capacity);
int larder_setxattr(const char *path, const char *name, const void *value, size_t length);
int larder_terminal_columns(int fd);  // TIOCGWINSZ, which Swift cannot call: ioctl(2) is variadic
// The open-files limit of this process, soft and hard; RLIM_INFINITY is UINT64_MAX.
int larder_open_files_limit(uint64_t *soft, uint64_t *hard);
int larder_raise_open_files_limit(void);  // soft to hard
