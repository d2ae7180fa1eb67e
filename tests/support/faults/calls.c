/* See calls.py: calls on files below some places are noted, end the process, or fail.
 *
 * Loaded before the C library, and idle until faults_arm() is called in the process that it is for,
 * or from the start where FAULTS_ERROR, FAULTS_KINDS and FAULTS_PLACES say which calls always fail.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define KINDS 24
#define LONG (PATH_MAX * 2)

enum { IDLE, NOTE, KILL, KILL_HALF, FAIL, CUT, CUT_HALF };

/* the order is that of KINDS in calls.py */
enum kind {
    CREATE, OPEN, OPENDIR, READDIR, WRITE, READ, STAT, FSYNC, FTRUNCATE, RENAME, LINK, SYMLINK, UNLINK,
    RMDIR, MKDIR, CHMOD, UTIME, FLOCK, CLOSE, COPY, LOCK, STATVFS
};

static struct {
    int mode, kind, error, log, with_data;
    long at;
    unsigned long then; /* kinds that fail from then on; before a cut, the call at which the journal is flushed */
    pid_t process;
    char places[LONG];
} armed;
static long counts[KINDS];
static unsigned long all;
static int struck;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

void faults_arm(const char *places, int mode, int kind, long at, int error, unsigned long then, int log,
                int with_data) {
    memset(counts, 0, sizeof counts);
    struck = 0, all = 0;
    armed.kind = kind, armed.at = at, armed.error = error, armed.then = then;
    armed.log = log, armed.with_data = with_data, armed.process = getpid();
    snprintf(armed.places, sizeof armed.places, "%s", places);
    armed.mode = mode;
}

__attribute__((constructor)) static void from_environment(void) {
    const char *error = getenv("FAULTS_ERROR"), *kinds = getenv("FAULTS_KINDS"), *places = getenv("FAULTS_PLACES");
    if (!error || !kinds || !places) return;
    faults_arm(places, FAIL, -1, 0, atoi(error), strtoul(kinds, NULL, 10), -1, 0);
    struck = 1;
}

static int below(const char *path) {
    const char *place = armed.places;
    while (*place) {
        const char *end = strchrnul(place, ':');
        size_t n = end - place;
        if (n && !strncmp(path, place, n) && (path[n] == '/' || !path[n])) return 1;
        place = *end ? end + 1 : end;
    }
    return 0;
}

static int named(int fd, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlink, link, into, (size_t)PATH_MAX - 1);
    into[n > 0 ? n : 0] = 0;
    return n > 0;
}

static void whole(int folder, const char *path, char *into) {
    char start[PATH_MAX];
    if (!path) path = "";
    if (*path == '/') { snprintf(into, LONG, "%s", path); return; }
    if (folder == AT_FDCWD) { if (syscall(SYS_getcwd, start, sizeof start) < 0) *start = 0; }
    else named(folder, start);
    snprintf(into, LONG, *path ? "%s/%s" : "%s", start, path);
}

static void put(const void *data, size_t n) {
    const char *at = data;
    while (n) {
        ssize_t done = syscall(SYS_write, armed.log, at, n);
        if (done <= 0) abort();
        at += done, n -= done;
    }
}

/* A file that nobody needs is flushed: with it, a journal comes to the disk as far as it is. */
static void flush_journal(void) {
    char path[LONG];
    snprintf(path, sizeof path, "%s/../flushed", armed.places);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || syscall(SYS_write, fd, "", 1L) != 1 || syscall(SYS_fsync, fd)) abort();
    syscall(SYS_close, fd);
}

/* The end: of the process, and before it of the file system, which forgets what it has not written. */
static void end(void) {
    if (armed.mode >= CUT) {
        int fd = syscall(SYS_openat, AT_FDCWD, armed.places, O_RDONLY, 0), how = armed.error;
        if (fd < 0 || ioctl(fd, _IOR('X', 125, int), &how)) abort();
    }
    kill(getpid(), SIGKILL);
}

/* Whether the call is to fail now, or (-1) to be done by half; it may not return. */
static int hit(enum kind kind, const char *path) {
    long now = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
    if (armed.mode == NOTE && !armed.with_data) {
        char line[LONG + 20];
        int before = errno;
        put(line, snprintf(line, sizeof line, "%d\t%s\n", kind, path));
        errno = before;
    }
    if (armed.mode >= CUT && __atomic_add_fetch(&all, 1, __ATOMIC_SEQ_CST) == armed.then) flush_journal();
    if (armed.mode == FAIL && struck && (armed.then >> kind & 1)) { errno = armed.error; return 1; }
    if (armed.mode < KILL || kind != (enum kind)armed.kind || now != armed.at) return 0;
    if (armed.mode == FAIL) { struck = 1; errno = armed.error; return 1; }
    if (armed.mode == KILL || armed.mode == CUT) end();
    return armed.mode == KILL_HALF || armed.mode == CUT_HALF ? -1 : 0;
}

static int on_path(int folder, const char *path, char *into) {
    if (!armed.mode || armed.process != getpid()) return 0;
    int before = errno;
    whole(folder, path, into);
    errno = before;
    return below(into);
}
static int on_fd(int fd, char *into) {
    if (!armed.mode || armed.process != getpid()) return 0;
    int before = errno, found = named(fd, into) && below(into);
    errno = before;
    return found;
}

/* With data, one line of each call that was done, and the data behind it: kind, inode, offset, length, path, other path, parted by tabs. */
static void note(enum kind kind, unsigned long inode, long offset, size_t n, const char *path, const char *other,
                 const void *data) {
    if (armed.mode != NOTE || !armed.with_data) return;
    char line[2 * LONG + 100];
    int size = snprintf(line, sizeof line, "%d\t%lu\t%ld\t%zu\t%s\t%s\n", kind, inode, offset, n, path, other);
    int before = errno;
    put(line, size);
    if (data) put(data, n);
    errno = before;
}
static unsigned long inode_of(int fd) {
    struct stat s;
    return syscall(SYS_fstat, fd, &s) ? 0 : s.st_ino;
}
static long mode_of(int folder, const char *path) {
    struct stat s;
    return syscall(SYS_newfstatat, folder, path, &s, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) ? 0 : s.st_mode & 07777;
}
static unsigned long inode_at(int folder, const char *path) {
    struct stat s;
    return syscall(SYS_newfstatat, folder, path, &s, AT_SYMLINK_NOFOLLOW) ? 0 : s.st_ino;
}

#define LOCKED(expression) ({ \
    int noting = armed.mode == NOTE && armed.with_data; \
    if (noting) pthread_mutex_lock(&order); \
    __typeof__(expression) value_ = (expression); \
    value_; })
#define RELEASE() do { if (armed.mode == NOTE && armed.with_data) pthread_mutex_unlock(&order); } while (0)

#define BY_PATH(kind, folder, path, fails, call) do { \
    char named_[LONG]; \
    if (!on_path(folder, path, named_)) return call; \
    if (hit(kind, named_) == 1) return fails; \
    __typeof__(call) result_ = LOCKED(call); \
    if (result_ != (__typeof__(call))(fails)) note(kind, inode_at(folder, path), mode_of(folder, path), 0, named_, "", 0); \
    RELEASE(); \
    return result_; } while (0)
#define BY_FD(kind, fd, call) do { \
    char named_[LONG]; \
    if (!on_fd(fd, named_)) return call; \
    if (hit(kind, named_) == 1) return -1; \
    __typeof__(call) result_ = LOCKED(call); \
    if (result_ >= 0) note(kind, inode_of(fd), mode_of(fd, ""), 0, named_, "", 0); \
    RELEASE(); \
    return result_; } while (0)
#define BY_TWO(kind, folder, from, other, to, call) do { \
    char named_[LONG], second_[LONG]; \
    int first_ = on_path(folder, from, named_); \
    if (!on_path(other, to, second_) && !first_) return call; \
    if (hit(kind, named_) == 1) return -1; \
    unsigned long inode_ = kind == SYMLINK ? 0 : inode_at(folder, from); \
    __typeof__(call) result_ = LOCKED(call); \
    if (result_ >= 0) note(kind, inode_, 0, 0, named_, second_, 0); \
    RELEASE(); \
    return result_; } while (0)

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char named_[LONG];
    if (!on_path(folder, path, named_)) return syscall(SYS_openat, folder, path, flags, mode);
    int writes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY;
    enum kind kind = writes ? CREATE : flags & O_DIRECTORY ? OPENDIR : OPEN;
    if (hit(kind, named_) == 1) return -1;
    int was = syscall(SYS_faccessat, folder, path, F_OK) == 0;
    int fd = LOCKED((int)syscall(SYS_openat, folder, path, flags, mode));
    if (fd >= 0) note(kind, inode_of(fd), was | (flags & O_TRUNC ? 2 : 0), mode_of(fd, ""), named_, "", 0);
    RELEASE();
    return fd;
}
#define OPENS(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more); \
    return opened(AT_FDCWD, path, flags, mode); }
#define OPENS_AT(name) int name(int folder, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more); \
    return opened(folder, path, flags, mode); }
OPENS(open) OPENS(open64) OPENS_AT(openat) OPENS_AT(openat64)

DIR *opendir(const char *path) { BY_PATH(OPENDIR, AT_FDCWD, path, NULL, REAL(opendir)(path)); }
struct dirent64 *readdir64(DIR *folder) {
    char path[LONG];
    if (on_fd(dirfd(folder), path) && hit(READDIR, path) == 1) return NULL;
    return REAL(readdir64)(folder);
}

static long position(int fd) {
    struct stat s;
    if (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) return syscall(SYS_fstat, fd, &s) ? 0 : s.st_size;
    return syscall(SYS_lseek, fd, 0, SEEK_CUR);
}
static ssize_t written(int fd, const void *data, size_t n, long offset) {
    char path[LONG];
    int here = on_fd(fd, path), what = here ? hit(WRITE, path) : 0;
    if (what == 1) return -1;
    if (what == -1) n /= 2;
    if (here && armed.mode == NOTE && armed.with_data) pthread_mutex_lock(&order);
    long at = offset >= 0 || !here ? offset : position(fd);
    ssize_t done = offset < 0 ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, offset);
    if (what == -1) end();
    if (here && done >= 0) note(WRITE, inode_of(fd), at, done, path, "", data);
    if (here) RELEASE();
    return done;
}
ssize_t write(int fd, const void *data, size_t n) { return written(fd, data, n, -1); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return written(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { return written(fd, data, n, at); }

/* What the kernel copies is noted as what was then there to be read. */
static ssize_t copied(int to, long at, ssize_t done) {
    char path[LONG], link[64];
    if (done <= 0 || armed.mode != NOTE || !armed.with_data || !on_fd(to, path)) return done;
    char *data = malloc(done);
    snprintf(link, sizeof link, "/proc/self/fd/%d", to);
    int again = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY, 0);
    if (again < 0 || syscall(SYS_pread64, again, data, done, at) != done) abort();
    syscall(SYS_close, again);
    note(WRITE, inode_of(to), at, done, path, "", data);
    free(data);
    return done;
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t n) {
    char path[LONG];
    if (!on_fd(to, path)) return REAL(sendfile64)(to, from, offset, n);
    if (hit(COPY, path) == 1) return -1;
    long at = position(to);
    return copied(to, at, REAL(sendfile64)(to, from, offset, n));
}
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t n, unsigned flags) {
    char path[LONG];
    if (!on_fd(to, path)) return REAL(copy_file_range)(from, in, to, out, n, flags);
    if (hit(COPY, path) == 1) return -1;
    long at = out ? *out : position(to);
    return copied(to, at, REAL(copy_file_range)(from, in, to, out, n, flags));
}

ssize_t read(int fd, void *data, size_t n) {
    char path[LONG];
    return on_fd(fd, path) && hit(READ, path) == 1 ? -1 : REAL(read)(fd, data, n);
}
ssize_t pread64(int fd, void *data, size_t n, off64_t at) {
    char path[LONG];
    return on_fd(fd, path) && hit(READ, path) == 1 ? -1 : REAL(pread64)(fd, data, n, at);
}
ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t at, int flags) {
    char path[LONG];
    return on_fd(fd, path) && hit(READ, path) == 1 ? -1 : REAL(preadv64v2)(fd, v, n, at, flags);
}

#define STATS(name) int name(const char *path, struct stat64 *into) { \
    char found[LONG]; \
    return on_path(AT_FDCWD, path, found) && hit(STAT, found) == 1 ? -1 : REAL(name)(path, into); }
STATS(stat64) STATS(lstat64)
int fstat64(int fd, struct stat64 *into) {
    char path[LONG];
    return on_fd(fd, path) && hit(STAT, path) == 1 ? -1 : REAL(fstat64)(fd, into);
}
int fstatat64(int folder, const char *path, struct stat64 *into, int flags) {
    char found[LONG];
    return on_path(folder, path, found) && hit(STAT, found) == 1 ? -1 : REAL(fstatat64)(folder, path, into, flags);
}

int fsync(int fd) { BY_FD(FSYNC, fd, REAL(fsync)(fd)); }
int fdatasync(int fd) { BY_FD(FSYNC, fd, REAL(fdatasync)(fd)); }
static int truncated(int fd, off64_t size) {
    char path[LONG];
    if (!on_fd(fd, path)) return syscall(SYS_ftruncate, fd, size);
    if (hit(FTRUNCATE, path) == 1) return -1;
    int done = LOCKED((int)syscall(SYS_ftruncate, fd, size));
    if (!done) note(FTRUNCATE, inode_of(fd), size, 0, path, "", 0);
    RELEASE();
    return done;
}
int ftruncate(int fd, off_t size) { return truncated(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncated(fd, size); }
int fchmod(int fd, mode_t mode) { BY_FD(CHMOD, fd, REAL(fchmod)(fd, mode)); }
int chmod(const char *path, mode_t mode) { BY_PATH(CHMOD, AT_FDCWD, path, -1, REAL(chmod)(path, mode)); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    BY_PATH(CHMOD, folder, path, -1, REAL(fchmodat)(folder, path, mode, flags));
}
int futimens(int fd, const struct timespec when[2]) { BY_FD(UTIME, fd, REAL(futimens)(fd, when)); }
int utimensat(int folder, const char *path, const struct timespec when[2], int flags) {
    BY_PATH(UTIME, folder, path, -1, REAL(utimensat)(folder, path, when, flags));
}

int rename(const char *from, const char *to) {
    BY_TWO(RENAME, AT_FDCWD, from, AT_FDCWD, to, REAL(rename)(from, to));
}
int renameat(int folder, const char *from, int other, const char *to) {
    BY_TWO(RENAME, folder, from, other, to, REAL(renameat)(folder, from, other, to));
}
int link(const char *from, const char *to) { BY_TWO(LINK, AT_FDCWD, from, AT_FDCWD, to, REAL(link)(from, to)); }
int linkat(int folder, const char *from, int other, const char *to, int flags) {
    BY_TWO(LINK, folder, from, other, to, REAL(linkat)(folder, from, other, to, flags));
}
int symlink(const char *from, const char *to) {
    char path[LONG];
    if (!on_path(AT_FDCWD, to, path)) return REAL(symlink)(from, to);
    if (hit(SYMLINK, path) == 1) return -1;
    int done = LOCKED(REAL(symlink)(from, to));
    if (!done) note(SYMLINK, inode_at(AT_FDCWD, to), 0, 0, from, path, 0);
    RELEASE();
    return done;
}
int unlink(const char *path) { BY_PATH(UNLINK, AT_FDCWD, path, -1, REAL(unlink)(path)); }
int unlinkat(int folder, const char *path, int flags) {
    if (flags & AT_REMOVEDIR) BY_PATH(RMDIR, folder, path, -1, REAL(unlinkat)(folder, path, flags));
    BY_PATH(UNLINK, folder, path, -1, REAL(unlinkat)(folder, path, flags));
}
int rmdir(const char *path) { BY_PATH(RMDIR, AT_FDCWD, path, -1, REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { BY_PATH(MKDIR, AT_FDCWD, path, -1, REAL(mkdir)(path, mode)); }
int mkdirat(int folder, const char *path, mode_t mode) {
    BY_PATH(MKDIR, folder, path, -1, REAL(mkdirat)(folder, path, mode));
}

int flock(int fd, int how) {
    char path[LONG];
    if (on_fd(fd, path) && hit(FLOCK, path) == 1) return -1;
    return REAL(flock)(fd, how);
}

/* The locks of Linux, where there are no others. */
static int locked(int fd, int what) {
    char path[LONG];
    int locks = what == F_OFD_SETLK || what == F_OFD_SETLKW || what == F_SETLK || what == F_SETLKW;
    return locks && on_fd(fd, path) && hit(LOCK, path) == 1;
}
#define LOCKS(name) int name(int fd, int what, ...) { \
    va_list more; va_start(more, what); void *with = va_arg(more, void *); va_end(more); \
    return locked(fd, what) ? -1 : REAL(name)(fd, what, with); }
LOCKS(fcntl) LOCKS(fcntl64)

#define STATS_DISK(name, type) int name(const char *path, struct type *into) { \
    char found[LONG]; \
    return on_path(AT_FDCWD, path, found) && hit(STATVFS, found) == 1 ? -1 : REAL(name)(path, into); }
STATS_DISK(statvfs, statvfs) STATS_DISK(statvfs64, statvfs64)

/* As Linux has it, the descriptor is free whatever close says. */
int close(int fd) {
    char path[LONG];
    if (on_fd(fd, path) && (syscall(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) != O_RDONLY) {
        int fails = hit(CLOSE, path) == 1, error = errno;
        int done = syscall(SYS_close, fd);
        if (fails) { errno = error; return -1; }
        return done;
    }
    return syscall(SYS_close, fd);
}
