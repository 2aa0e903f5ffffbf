/* Takes from the VMM what it does not need, before its first own instruction and before it has a second thread: files that
 * the environment does not name, programs, the network, capabilities. Every thread and child of it inherits that. */
#include "ramshim.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

/* ---- files: Landlock. Its numbers are the kernel's; the headers of a host may be older than its kernel. ---- */

#define LL_CREATE_RULESET 444
#define LL_ADD_RULE 445
#define LL_RESTRICT_SELF 446
#define LL_VERSION 1u
#define LL_PATH_BENEATH 1

#define FS_WRITE (1ull << 1)
#define FS_READ (1ull << 2)
#define FS_REMOVE (1ull << 5)
#define FS_MAKE_FILE (1ull << 8)
#define FS_MAKE_SOCKET (1ull << 9)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL (1ull << 15)
#define FS_CONNECT (1ull << 16)
/* Those that a rule about a file, not a folder, may have. */
#define FS_OF_FILES (1ull | FS_WRITE | FS_READ | FS_TRUNCATE | FS_IOCTL | FS_CONNECT)

struct ruleset {
  uint64_t files, network, scopes;
};

struct rule {
  uint64_t access;
  int32_t fd;
} __attribute__((packed));

static struct {
  int version; /* of Landlock; 0 where the kernel has none */
  int why;     /* errno then */
} landlock;

/* All that this version of Landlock can forbid. */
static struct ruleset forbidden(int version) {
  struct ruleset all = {(1ull << 13) - 1, 0, 0};
  if (version >= 2) all.files |= 1ull << 13; /* to move or link to another folder */
  if (version >= 3) all.files |= FS_TRUNCATE;
  if (version >= 4) all.network = 3; /* TCP: bind and connect */
  if (version >= 5) all.files |= FS_IOCTL;
  if (version >= 6) all.scopes = 3; /* abstract sockets and signals, of processes outside */
  if (version >= 9) all.files |= FS_CONNECT;
  return all;
}

static const struct {
  const char *word;
  uint64_t access;
} grants[] = {
    {"read", FS_READ},
    {"write", FS_READ | FS_WRITE | FS_TRUNCATE | FS_IOCTL},
    {"make", FS_READ | FS_WRITE | FS_TRUNCATE | FS_REMOVE | FS_MAKE_FILE | FS_MAKE_SOCKET | FS_CONNECT},
    {"connect", FS_CONNECT},
};

/* What cannot be opened here cannot be opened later either, so it needs no rule. */
static int allow(int ruleset, const char *path, uint64_t access) {
  struct stat info;
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return 0;
  if (fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) access &= FS_OF_FILES;
  struct rule rule = {access, fd};
  int result = access == 0 ? 0 : (int)syscall(LL_ADD_RULE, ruleset, LL_PATH_BENEATH, &rule, 0);
  if (result != 0) complain("allow", path);
  close(fd);
  return result;
}

static int allow_line(int ruleset, char *line, uint64_t known) {
  char *path = line, *word = strsep(&path, " ");
  for (size_t i = 0; path && i < sizeof grants / sizeof *grants; i++)
    if (strcmp(word, grants[i].word) == 0) return allow(ruleset, path, grants[i].access & known);
  errno = EINVAL;
  return complain("understand", word);
}

static int allow_all(int ruleset, uint64_t known) {
  const char *list = getenv("GATEWAY_CONFINE");
  char *copy = strdup(list ? list : ""), *rest = copy, *line;
  int result = copy ? 0 : -1;
  while (result == 0 && (line = strsep(&rest, "\n")) != NULL)
    if (*line) result = allow_line(ruleset, line, known);
  free(copy);
  return result;
}

/* Landlock confines the calling thread, and threads and processes that it starts later. */
static int is_alone(void) {
  struct stat tasks;
  return stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink <= 3;
}

static int confine_files(void) {
  landlock.version = (int)syscall(LL_CREATE_RULESET, NULL, 0, LL_VERSION);
  if (landlock.version < 1) {
    landlock.version = 0;
    landlock.why = errno;
    return 0;
  }
  errno = EBUSY;
  if (!is_alone()) return complain("confine", "a process with several threads");
  struct ruleset all = forbidden(landlock.version);
  int ruleset = (int)syscall(LL_CREATE_RULESET, &all, sizeof all, 0);
  if (ruleset < 0) return complain("make", "a Landlock ruleset");
  int result = allow_all(ruleset, all.files);
  if (result == 0 && syscall(LL_RESTRICT_SELF, ruleset, 0) != 0) result = complain("use", "the Landlock ruleset");
  close(ruleset);
  return result;
}

size_t describe_confinement(char *line, size_t size) {
  const char *form = landlock.version ? "landlock %d\n" : "unconfined %d\n";
  return (size_t)snprintf(line, size, form, landlock.version ? landlock.version : landlock.why);
}

/* ---- system calls: seccomp. The VMM's own sandbox would forbid the fork of a save, too. ---- */

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#else
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

/* Calls of another numbering that the same processor has. */
#define OTHER_NUMBERS 0x40000000u
#define NEW_NAMESPACES 0x7e020000u

static const int denied[] = {
    SYS_execve,  SYS_execveat, SYS_ptrace,     SYS_process_vm_readv,  SYS_process_vm_writev, SYS_bpf,
    SYS_mount,   SYS_umount2,  SYS_pivot_root, SYS_chroot,            SYS_unshare,           SYS_setns,
    SYS_add_key, SYS_keyctl,   SYS_request_key, SYS_perf_event_open, SYS_open_by_handle_at, SYS_kexec_load,
};
/* A program takes these for calls that an older kernel lacks, and uses others, whose arguments can be seen. */
static const int absent[] = {SYS_clone3, SYS_io_uring_setup};

#define COUNT(list) (sizeof list / sizeof *list)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define GIVE(result) BPF_STMT(BPF_RET | BPF_K, result)
#define UNLESS(test, value, skip) BPF_JUMP(BPF_JMP | test | BPF_K, value, 0, skip)

static struct sock_filter *deny(struct sock_filter *at, const int *calls, size_t count, int error) {
  for (size_t i = 0; i < count; i++) {
    *at++ = (struct sock_filter)UNLESS(BPF_JEQ, (uint32_t)calls[i], 1);
    *at++ = (struct sock_filter)GIVE(SECCOMP_RET_ERRNO | (uint32_t)error);
  }
  return at;
}

static int confine_calls(void) {
  const struct sock_filter first[] = {
      LOAD(arch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
      GIVE(SECCOMP_RET_KILL_PROCESS),
      LOAD(nr),
      UNLESS(BPF_JGE, OTHER_NUMBERS, 1),
      GIVE(SECCOMP_RET_KILL_PROCESS),
  };
  /* The low half of an argument comes first; the kernel looks at no more of these. */
  const struct sock_filter last[] = {
      UNLESS(BPF_JEQ, SYS_socket, 3),
      LOAD(args[0]),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 4, 0),
      GIVE(SECCOMP_RET_ERRNO | EPERM),
      UNLESS(BPF_JEQ, SYS_clone, 2),
      LOAD(args[0]),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 1, 0),
      GIVE(SECCOMP_RET_ALLOW),
      GIVE(SECCOMP_RET_ERRNO | EPERM),
  };
  struct sock_filter code[COUNT(first) + 2 * (COUNT(denied) + COUNT(absent)) + COUNT(last)];
  memcpy(code, first, sizeof first);
  struct sock_filter *at = deny(code + COUNT(first), denied, COUNT(denied), EPERM);
  memcpy(deny(at, absent, COUNT(absent), ENOSYS), last, sizeof last);
  struct sock_fprog program = {COUNT(code), code};
  int failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0;
  return failed ? complain("use", "the filter of system calls") : 0;
}

/* ---- all of it ---- */

/* Of root; another user has none. The files that the VMM may use are its own user's. */
static int drop_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return syscall(SYS_capset, &header, none) == 0 ? 0 : complain("give up", "capabilities");
}

__attribute__((constructor)) static void confine(void) {
  int saved = errno;
  /* The host may have turned merging on for all its processes; only root can turn it off (see stay_unmerged). */
  prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || drop_capabilities() != 0 || confine_files() != 0 || confine_calls() != 0)
    _exit(126);
  errno = saved;
}
