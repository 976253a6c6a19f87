/* fanload: a load for route reflectors, and a meter.
 *
 * Opens N BGP sessions to one target, lets the first F of them announce K prefixes each, and measures until
 * every session holds all that the others announced; then how long single changes take to all sessions, and
 * how long a session that joins late waits for the whole table. Every route that comes back is checked:
 * next hop, ORIGINATOR_ID and CLUSTER_LIST. One JSON object on standard output; times in seconds, memory in
 * octets. Exit status: 0, 3 where the run did not get to its end (the JSON has the reason in "problem" and
 * all that was measured before), 2 for wrong arguments. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fleet.h"

enum { JOIN_LIMIT = 100, CHANGE_LIMIT = 100000 };
static const double SETTLE_TIME = 0.3; /* of quiet between two measurements */

struct options {
    const char *target, *source;
    unsigned long port, sessions, feeders, routes, set, length, as, hold, window, changes, joins, pid, limit;
};

struct target {
    pid_t pid;
    clockid_t clock;
};

static struct target find_target(pid_t pid) {
    struct target target = {.pid = pid};
    if (pid && clock_getcpuclockid(pid, &target.clock)) target.pid = 0;
    return target;
}

/* Processor time of all threads of the target so far. */
static double cpu_of(const struct target *target) {
    struct timespec t = {0};
    if (target->pid) clock_gettime(target->clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* A line of /proc/PID/status: "VmRSS" now, "VmHWM" the most so far. */
static double memory_of(const struct target *target, const char *field) {
    char path[64], line[256];
    double octets = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)target->pid);
    FILE *file = target->pid ? fopen(path, "r") : NULL;
    size_t length = strlen(field);
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, field, length) && line[length] == ':') octets = strtod(line + length + 1, NULL) * 1024;
    if (file) fclose(file);
    return octets;
}

static void settle(struct fleet *fleet, double seconds) {
    uint64_t octets = fleet->octets;
    for (double quiet = now(); now() - quiet < seconds && !fleet->problem[0];) {
        fleet_turn(fleet, 0.02);
        if (fleet->octets != octets) {
            octets = fleet->octets;
            quiet = now();
        }
    }
}

static void measure_establish(struct fleet *fleet, const struct options *options) {
    double began = now();
    while (fleet->established < options->sessions && !fleet->problem[0]) {
        while (fleet->opened < options->sessions && fleet->opened - fleet->established < options->window) fleet_open(fleet);
        fleet_turn(fleet, 0.1);
    }
    printf("\"establish\": %.6f, \"retries\": %u", now() - began, fleet->retries);
}

static void measure_converge(struct fleet *fleet, const struct target *target) {
    uint32_t feeders = fleet->load.feeders;
    /* A lone feeder holds nothing of others, and is complete from the start. */
    uint32_t wanted = fleet->opened - (feeders == 1);
    printf(", \"memory_before\": %.0f", memory_of(target, "VmRSS"));
    double began = now(), cpu = cpu_of(target);
    for (uint32_t i = 0; i < feeders; i++) fleet_announce_all(fleet, &fleet->sessions[i]);
    while (fleet->complete < wanted && !fleet->problem[0]) fleet_turn(fleet, 0.1);
    double took = now() - began;
    if (fleet->complete < wanted) {
        printf(", \"complete\": %u", fleet->complete);
        return;
    }
    printf(", \"converge\": %.6f, \"converge_cpu\": %.6f, \"deliveries\": %lu, \"repeats\": %lu, \"octets\": %lu, \"updates\": %lu, \"echoes\": %lu",
           took, cpu_of(target) - cpu, (unsigned long)fleet->deliveries, (unsigned long)fleet->repeats,
           (unsigned long)fleet->octets, (unsigned long)fleet->updates, (unsigned long)fleet->echoes);
    settle(fleet, SETTLE_TIME);
    printf(", \"memory\": %.0f, \"memory_peak\": %.0f", memory_of(target, "VmRSS"), memory_of(target, "VmHWM"));
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count) {
    qsort(values, count, sizeof *values, ascending);
    return values[(count - 1) / 2];
}

static void print_list(const double *values, unsigned count) {
    for (unsigned i = 0; i < count; i++) printf("%s%.6f", i ? ", " : "[", values[i]);
    putchar(']');
}

/* Withdraw one prefix and announce it again, now of this feeder, now of that one. */
static void measure_changes(struct fleet *fleet, const struct target *target, unsigned changes) {
    static double first[CHANGE_LIMIT], all[CHANGE_LIMIT];
    uint32_t routes = fleet->load.routes, feeders = fleet->load.feeders, seed = 1, done = 0;
    double cpu = cpu_of(target);
    for (unsigned i = 0; i < changes && !fleet->problem[0]; i++) {
        struct watch *watch = &fleet->watch;
        if (i % 2 == 0) {
            seed = seed * 1664525 + 1013904223;
            watch->prefix = (seed >> 8) % (feeders * routes);
        }
        watch->number = i + 1;
        watch->withdrawn = i % 2 == 0;
        watch->seen = 0;
        struct session *session = &fleet->sessions[watch->prefix / routes];
        double began = now();
        fleet_update(fleet, session, watch->prefix, watch->prefix + 1, watch->withdrawn);
        while (watch->seen < fleet->opened - 1 && !fleet->problem[0]) fleet_turn(fleet, 0.1);
        if (fleet->problem[0]) break;
        first[done] = watch->first - began;
        all[done++] = watch->last - began;
    }
    if (!done) return;
    printf(", \"change_cpu\": %.6f, \"change_first_p50\": %.6f, \"change_times\": ", (cpu_of(target) - cpu) / done,
           median(first, done));
    print_list(all, done);
}

/* Sessions that come one after the other: from the first octet of TCP to the last route. */
static void measure_late(struct fleet *fleet, unsigned joins) {
    double took[JOIN_LIMIT];
    uint32_t done = 0;
    for (unsigned i = 0; i < joins && !fleet->problem[0]; i++) {
        settle(fleet, SETTLE_TIME / 2);
        struct session *session = &fleet->sessions[fleet->opened];
        fleet_open(fleet);
        while (!session->complete_at && !fleet->problem[0]) fleet_turn(fleet, 0.1);
        if (!session->complete_at) break;
        took[done++] = session->complete_at - session->began;
        fleet_close(fleet, session);
    }
    if (!done) return;
    printf(", \"late_times\": ");
    print_list(took, done);
}

static bool run(struct fleet *fleet, const struct options *options) {
    const struct load *load = &fleet->load;
    struct target target = find_target(options->pid);
    printf("{\"sessions\": %u, \"feeders\": %u, \"routes\": %u, ", load->sessions, load->feeders, load->routes);
    measure_establish(fleet, options);
    if (!fleet->problem[0]) {
        settle(fleet, SETTLE_TIME);
        measure_converge(fleet, &target);
    }
    if (!fleet->problem[0]) measure_changes(fleet, &target, options->changes);
    if (!fleet->problem[0]) measure_late(fleet, options->joins);
    printf(", \"memory_peak_all\": %.0f", memory_of(&target, "VmHWM"));
    if (fleet->problem[0]) {
        printf(", \"problem\": \"%s\"", fleet->problem);
        fprintf(stderr, "fanload: %s\n", fleet->problem);
    }
    puts("}");
    return !fleet->problem[0];
}

static const char USAGE[] =
    "usage: fanload [option value]...\n"
    "  -t address of the target, 127.0.0.1     -p its port, 179\n"
    "  -s source address of the first session, 127.1.0.1; the others follow\n"
    "  -n sessions, 100      -f how many of them announce, all      -k prefixes that each of those announces, 20\n"
    "  -g prefixes that share one attribute set; 0, all of a session\n"
    "  -l prefix length, 26  -a AS, 64512      -o hold time, 240\n"
    "  -w sessions in the handshake at once, 64\n"
    "  -c single changes to time, 100          -j late joins to time, 3\n"
    "  -P PID of the target, for its processor time and memory\n"
    "  -T time limit of the whole run in seconds, 120\n";

static void bad_usage(const char *why) {
    fprintf(stderr, "fanload: %s\n%s", why, USAGE);
    exit(2);
}

static unsigned long number(const char *text, unsigned long least, unsigned long most) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || !*text || value < least || value > most) bad_usage("a number is not one, or out of its range");
    return value;
}

int main(int count, char **arguments) {
    struct options o = {.target = "127.0.0.1", .source = "127.1.0.1", .port = 179, .sessions = 100, .routes = 20,
                        .length = 26, .as = 64512, .hold = 240, .window = 64, .changes = 100, .joins = 3, .limit = 120};
    for (int option; (option = getopt(count, arguments, "t:p:s:n:f:k:g:l:a:o:w:c:j:P:T:h")) != -1;) switch (option) {
        case 't': o.target = optarg; break;
        case 's': o.source = optarg; break;
        case 'p': o.port = number(optarg, 1, 65535); break;
        case 'n': o.sessions = number(optarg, 2, 60000); break;
        case 'f': o.feeders = number(optarg, 0, 60000); break;
        case 'k': o.routes = number(optarg, 1, 1 << 24); break;
        case 'g': o.set = number(optarg, 0, 1 << 24); break;
        case 'l': o.length = number(optarg, 8, 32); break;
        case 'a': o.as = number(optarg, 1, 0xffffffff); break;
        case 'o': o.hold = number(optarg, 3, 65535); break;
        case 'w': o.window = number(optarg, 1, 60000); break;
        case 'c': o.changes = number(optarg, 0, CHANGE_LIMIT); break;
        case 'j': o.joins = number(optarg, 0, JOIN_LIMIT); break;
        case 'P': o.pid = number(optarg, 1, 1 << 30); break;
        case 'T': o.limit = number(optarg, 1, 86400); break;
        case 'h': fputs(USAGE, stdout); return 0;
        default: bad_usage("unknown option, or a value is missing");
        }
    if (optind < count) bad_usage("too many arguments");
    if (!o.feeders || o.feeders > o.sessions) o.feeders = o.sessions;
    /* From 10.0.0.0 up to 126.255.255.255. */
    if ((unsigned long)o.feeders * o.routes > 117ul << 24 >> (32 - o.length))
        bad_usage("so many prefixes of this length do not fit below 127.0.0.0");
    struct in_addr source;
    static struct fleet fleet;
    fleet.load = (struct load){.as = o.as, .sessions = o.sessions, .feeders = o.feeders, .routes = o.routes,
                               .routes_a_set = o.set, .prefix_length = o.length, .hold_time = o.hold};
    fleet.target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(o.port)};
    if (!inet_pton(AF_INET, o.target, &fleet.target.sin_addr) || !inet_pton(AF_INET, o.source, &source))
        bad_usage("an address is not an IPv4 address");
    fleet.source = ntohl(source.s_addr);
    fleet.deadline = now() + o.limit;
    if (!fleet_make(&fleet, o.sessions + o.joins)) {
        fprintf(stderr, "fanload: %s\n", fleet.problem);
        return 2;
    }
    return run(&fleet, &o) ? 0 : 3;
}
