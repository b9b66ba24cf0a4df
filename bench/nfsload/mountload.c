/*
 * mountload - does one thing again and again to the files of a mounted folder, one call at a time.
 *
 * One run measures one operation and prints one JSON line on stdout, as nfsload does. Preparation is never inside the timed region.
 *
 * Exit status: 0 measured, 1 could not run.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, SMALL = 4096 };

static const char *path, *op;
static int server_pid;
/* Of operations that make something; others do what they do to each file of the folder once. */
static uint64_t count = 1000;
/* Of operations that can be repeated. */
static double seconds = 0.5;
static int dir_fd;
static char **names;
static uint64_t name_count;
static uint64_t ops, bytes, entries;
static char *buffer;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("mountload: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec ts;
    if (clock_gettime(clock, &ts) != 0) die("no such clock");
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t cpu_ns(int pid) {
    clockid_t clock;
    if (clock_getcpuclockid(pid, &clock) != 0) die("no CPU clock of process %d", pid);
    return clock_ns(clock);
}

static int must(int result, const char *what) {
    if (result < 0) die("%s: %s", what, strerror(errno));
    return result;
}

static DIR *listing(void) {
    DIR *dir = fdopendir(must(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY), "opendir"));
    if (dir == NULL) die("fdopendir: %s", strerror(errno));
    return dir;
}

/* The names of the folder, in the order of its listing. */
static void list_names(void) {
    DIR *dir = listing();
    uint64_t room = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        if (name_count == room) names = realloc(names, (room = room ? 2 * room : 1024) * sizeof *names);
        names[name_count++] = strdup(entry->d_name);
    }
    closedir(dir);
    if (name_count == 0) die("%s is empty", path);
}

/* statx of open files, in turn: each asks the file system, whatever the kernel has cached. */
static int *opened;
static void prepare_getattr(void) {
    list_names();
    opened = malloc(name_count * sizeof *opened);
    for (uint64_t i = 0; i < name_count; i++) opened[i] = must(openat(dir_fd, names[i], O_PATH), names[i]);
}
static void run_getattr(void) {
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
    struct statx found;
    do {
        must(statx(opened[ops % name_count], "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &found), "statx");
        ops++;
    } while (ops % 16 != 0 || clock_ns(CLOCK_MONOTONIC) < end);
}

static void run_open_read(void) {
    for (; ops < name_count; ops++) {
        int fd = must(openat(dir_fd, names[ops], O_RDONLY), names[ops]);
        must((int)pread(fd, buffer, SMALL, 0), "read");
        must(close(fd), "close");
    }
}

/* Of the first file, from begin to end, nothing of it in the cache of the mount. */
static int first_file;
static void prepare_read(void) {
    list_names();
    first_file = must(openat(dir_fd, names[0], O_RDONLY), names[0]);
    posix_fadvise(first_file, 0, 0, POSIX_FADV_DONTNEED);
}
static void run_read(void) {
    for (ssize_t got; (got = must((int)read(first_file, buffer, BLOCK), "read")) > 0; ops++) bytes += (uint64_t)got;
}

static void prepare_write(void) {
    first_file = must(openat(dir_fd, "written", O_WRONLY | O_CREAT | O_EXCL, 0644), "create");
}
static void run_write(void) {
    for (; ops < count; ops++) {
        ssize_t put = must((int)pwrite(first_file, buffer, BLOCK, (off_t)(ops * BLOCK)), "write");
        if (put != BLOCK) die("a write of %zd bytes", put);
        bytes += BLOCK;
    }
}

static char *numbered(const char *what, uint64_t number) {
    static char name[64];
    snprintf(name, sizeof name, "%s-%07llu", what, (unsigned long long)number);
    return name;
}

static void run_create(void) {
    for (; ops < count; ops++) {
        const char *name = numbered("created", ops);
        must(close(must(openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0644), name)), name);
    }
}

static void run_rename(void) {
    for (; ops < name_count; ops++) must(renameat(dir_fd, names[ops], dir_fd, numbered("renamed", ops)), names[ops]);
}
static void prepare_rename_made(void) {
    run_create();
    ops = 0;
    list_names();
}

static void run_unlink(void) {
    for (; ops < name_count; ops++) must(unlinkat(dir_fd, names[ops], 0), names[ops]);
}

static void run_chmod(void) {
    for (; ops < name_count; ops++) must(fchmodat(dir_fd, names[ops], 0600, 0), names[ops]);
}

static void list(bool with_stat) {
    DIR *dir = listing();
    struct stat found;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL; entries++)
        if (with_stat) must(fstatat(dir_fd, entry->d_name, &found, AT_SYMLINK_NOFOLLOW), entry->d_name);
    closedir(dir);
    ops++;
}
static void run_list(void) { list(false); }
static void run_list_stat(void) { list(true); }

static const struct operation {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
} operations[] = {
    {"getattr", prepare_getattr, run_getattr},
    {"open-read", list_names, run_open_read},
    {"read", prepare_read, run_read},
    {"write", prepare_write, run_write},
    {"create", NULL, run_create},
    {"rename", prepare_rename_made, run_rename},
    {"rename-each", list_names, run_rename},
    {"unlink", list_names, run_unlink},
    {"chmod", list_names, run_chmod},
    {"list", NULL, run_list},
    {"list-stat", NULL, run_list_stat},
    {NULL, NULL, NULL},
};

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"op", required_argument, NULL, 'o'},      {"path", required_argument, NULL, 'p'},       {"count", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'}, {"server-pid", required_argument, NULL, 'i'}, {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'o': op = optarg; break;
        case 'p': path = optarg; break;
        case 'c': count = strtoull(optarg, NULL, 10); break;
        case 's': seconds = atof(optarg); break;
        case 'i': server_pid = atoi(optarg); break;
        default: op = NULL; optind = argc + 1;
        }
    }
    const struct operation *chosen = operations;
    while (op != NULL && chosen->name != NULL && strcmp(chosen->name, op) != 0) chosen++;
    if (op == NULL || path == NULL || chosen->name == NULL || optind != argc)
        die("usage: mountload --op OP --path FOLDER [--count N] [--seconds S] [--server-pid PID]");

    buffer = aligned_alloc(SMALL, BLOCK);
    memset(buffer, 0x5a, BLOCK);
    dir_fd = must(open(path, O_RDONLY | O_DIRECTORY), path);
    if (chosen->prepare != NULL) chosen->prepare();

    uint64_t server_cpu = server_pid ? cpu_ns(server_pid) : 0, start = clock_ns(CLOCK_MONOTONIC);
    chosen->run();
    double took = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
    if (server_pid) server_cpu = cpu_ns(server_pid) - server_cpu;

    printf("{\"op\":\"%s\",\"seconds\":%.6f,\"ops\":%llu,\"ops_per_s\":%.1f", op, took, (unsigned long long)ops, (double)ops / took);
    if (server_pid) printf(",\"server_cpu_us_per_op\":%.2f", (double)server_cpu / 1e3 / (double)ops);
    if (bytes) printf(",\"bytes\":%llu,\"mb_per_s\":%.1f", (unsigned long long)bytes, (double)bytes / 1e6 / took);
    if (entries) printf(",\"entries_per_s\":%.1f", (double)entries / took);
    puts(",\"errors\":0}");
    return 0;
}
