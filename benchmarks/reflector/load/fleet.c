#define _GNU_SOURCE
#include "fleet.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const double HANDSHAKE_TIME = 10; /* seconds; then the session is tried again */

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* The first problem is the one that is told. */
static void fail(struct fleet *fleet, const char *format, ...) {
    if (fleet->problem[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fleet->problem, sizeof fleet->problem, format, arguments);
    va_end(arguments);
}

static void *need(void *memory) {
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

bool fleet_make(struct fleet *fleet, uint32_t sessions) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < sessions + 16) {
        fail(fleet, "%u sessions need %u file descriptors, the limit is %lu", sessions, sessions + 16,
             (unsigned long)files.rlim_cur);
        return false;
    }
    fleet->epoll = epoll_create1(EPOLL_CLOEXEC);
    fleet->room = sessions;
    fleet->sessions = need(calloc(sessions, sizeof *fleet->sessions));
    return true;
}

static void want(struct fleet *fleet, struct session *session, bool write, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.u32 = session->id};
    epoll_ctl(fleet->epoll, operation, session->fd, &event);
}

static void shut(struct fleet *fleet, struct session *session) {
    if (session->state == CLOSED) return;
    fleet->established -= session->state == ESTABLISHED;
    fleet->complete -= session->complete_at > 0;
    close(session->fd);
    session->state = CLOSED;
    session->out_at = session->out_end = session->rest_octets = 0;
}

static void dial(struct fleet *fleet, struct session *session) {
    const struct load *load = &fleet->load;
    /* 250 addresses of each /24: no address ends with 0 or 255. */
    struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(fleet->source + session->id / 250 * 256 + session->id % 250)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail(fleet, "socket: %s", strerror(errno));
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    session->fd = fd;
    session->state = CONNECTING;
    session->began = now();
    session->held = session->watched = 0;
    session->complete_at = session->established_at = 0;
    session->wanted = load->routes * (load->feeders - (session->id < load->feeders));
    if (!session->holds) session->holds = need(malloc((load->feeders * load->routes + 63) / 64 * 8));
    memset(session->holds, 0, (load->feeders * load->routes + 63) / 64 * 8);
    want(fleet, session, true, EPOLL_CTL_ADD);
    if (bind(fd, (void *)&source, sizeof source) < 0) {
        fail(fleet, "bind to the source address of session %u: %s", session->id, strerror(errno));
    } else if (connect(fd, (void *)&fleet->target, sizeof fleet->target) < 0 && errno != EINPROGRESS) {
        fail(fleet, "connect: %s", strerror(errno));
    }
}

void fleet_open(struct fleet *fleet) {
    struct session *session = &fleet->sessions[fleet->opened];
    session->id = fleet->opened++;
    dial(fleet, session);
}

/* The connection is gone. Before the session was up it is tried again; after, it is the end of the run. */
static void lost(struct fleet *fleet, struct session *session, const char *why) {
    if (session->state == ESTABLISHED) {
        fail(fleet, "session %u is down: %s", session->id, why);
        return;
    }
    shut(fleet, session);
    if (++fleet->retries > 10 * fleet->room) fail(fleet, "no session comes up; the last failed: %s", why);
    else dial(fleet, session);
}

static void flush(struct fleet *fleet, struct session *session) {
    while (session->out_at < session->out_end) {
        ssize_t sent =
            send(session->fd, session->out + session->out_at, session->out_end - session->out_at, MSG_NOSIGNAL);
        if (sent < 0) {
            /* Any other error is seen by the next read. */
            if (errno == EAGAIN) want(fleet, session, true, EPOLL_CTL_MOD);
            return;
        }
        session->out_at += sent;
    }
    session->out_at = session->out_end = 0;
    want(fleet, session, false, EPOLL_CTL_MOD);
}

static void queue(struct session *session, const uint8_t *octets, size_t count) {
    if (session->out_end + count > session->out_room) {
        session->out_room = (session->out_end + count) * 2;
        session->out = need(realloc(session->out, session->out_room));
    }
    memcpy(session->out + session->out_end, octets, count);
    session->out_end += count;
}

void fleet_send(struct fleet *fleet, struct session *session, const uint8_t *octets, size_t count) {
    queue(session, octets, count);
    session->spoke_at = now();
    flush(fleet, session);
}

void fleet_update(struct fleet *fleet, struct session *session, uint32_t first, uint32_t end, bool withdraw) {
    uint8_t message[MAX_MESSAGE_OCTETS];
    while (first < end) {
        size_t octets = withdraw ? write_withdrawal(&fleet->load, &first, end, message)
                                 : write_announcement(&fleet->load, session->id, &first, end, message);
        queue(session, message, octets);
    }
    flush(fleet, session);
}

void fleet_announce_all(struct fleet *fleet, struct session *session) {
    uint8_t message[MAX_MESSAGE_OCTETS];
    uint32_t first = session->id * fleet->load.routes;
    fleet_update(fleet, session, first, first + fleet->load.routes, false);
    fleet_send(fleet, session, message, write_end_of_rib(message));
}

void fleet_close(struct fleet *fleet, struct session *session) {
    uint8_t message[MAX_MESSAGE_OCTETS];
    fleet_send(fleet, session, message, write_cease(message));
    shut(fleet, session);
}

static void saw(struct fleet *fleet, struct session *session, double at) {
    struct watch *watch = &fleet->watch;
    if (session->watched == watch->number) return;
    session->watched = watch->number;
    if (!watch->seen++) watch->first = at;
    watch->last = at;
}

static void take_update(struct fleet *fleet, struct session *session, const uint8_t *body, const uint8_t *end, double at) {
    const struct load *load = &fleet->load;
    const struct watch *watch = &fleet->watch;
    struct update update;
    uint32_t prefix;
    const char *wrong = read_update(load, body, end, &update);
    if (wrong) {
        fail(fleet, "session %u got %s", session->id, wrong);
        return;
    }
    fleet->updates++;
    const uint8_t *p = update.withdrawn;
    while (p < update.withdrawn_end) {
        if (!read_prefix(load, &p, update.withdrawn_end, &prefix)) {
            fail(fleet, "session %u got a withdrawal of a prefix that nobody announced", session->id);
            return;
        }
        uint64_t bit = 1ull << (prefix & 63), *word = &session->holds[prefix >> 6];
        session->held -= !!(*word & bit);
        *word &= ~bit;
        if (prefix == watch->prefix && watch->withdrawn) saw(fleet, session, at);
    }
    p = update.announced;
    uint32_t first = load->routes * (p < update.announced_end ? update.from : 0), new = 0, count = 0;
    while (p < update.announced_end) {
        if (!read_prefix(load, &p, update.announced_end, &prefix) || prefix - first >= load->routes) {
            fail(fleet, "session %u got a prefix with the attributes of another", session->id);
            return;
        }
        /* A reflector may send a router its own routes; the router ignores them by their ORIGINATOR_ID. */
        if (update.from == session->id) {
            fleet->echoes++;
            continue;
        }
        uint64_t bit = 1ull << (prefix & 63), *word = &session->holds[prefix >> 6];
        new += !(*word & bit);
        count++;
        *word |= bit;
        if (prefix == watch->prefix && !watch->withdrawn) saw(fleet, session, at);
    }
    session->held += new;
    fleet->deliveries += count;
    fleet->repeats += count - new;
    if (new && session->held == session->wanted && !session->complete_at) {
        session->complete_at = at;
        fleet->complete++;
    }
}

static void take_message(struct fleet *fleet, struct session *session, const uint8_t *message, size_t octets, double at) {
    uint8_t answer[MAX_MESSAGE_OCTETS];
    switch (message[18]) {
    case OPEN:
        session->state = OPEN_CONFIRM;
        fleet_send(fleet, session, answer, write_keepalive(answer));
        break;
    case KEEPALIVE:
        if (session->state == OPEN_CONFIRM) {
            session->state = ESTABLISHED;
            session->established_at = at;
            fleet->established++;
            if (session->id >= fleet->load.feeders) fleet_send(fleet, session, answer, write_end_of_rib(answer));
        }
        break;
    case UPDATE: take_update(fleet, session, message + HEADER_OCTETS, message + octets, at); break;
    case NOTIFICATION:
        if (session->state == ESTABLISHED && octets >= HEADER_OCTETS + 2)
            fail(fleet, "session %u got NOTIFICATION %u/%u", session->id, message[19], message[20]);
        break;
    }
}

static void on_readable(struct fleet *fleet, struct session *session) {
    /* One buffer for all sessions stays in the processor's cache; only the rest of a message is put aside. */
    static uint8_t buffer[256 * 1024];
    size_t room, got;
    do {
        memcpy(buffer, session->rest, session->rest_octets);
        room = sizeof buffer - session->rest_octets;
        ssize_t count = recv(session->fd, buffer + session->rest_octets, room, 0);
        if (count <= 0) {
            if (count == 0) lost(fleet, session, "closed by the target");
            else if (errno != EAGAIN) lost(fleet, session, strerror(errno));
            return;
        }
        got = count;
        double at = now();
        fleet->octets += got;
        const uint8_t *p = buffer, *end = buffer + session->rest_octets + got;
        while (end - p >= HEADER_OCTETS) {
            size_t octets = (size_t)p[16] << 8 | p[17];
            if (octets < HEADER_OCTETS || octets > MAX_MESSAGE_OCTETS) {
                fail(fleet, "session %u got a message of %zu octets", session->id, octets);
                return;
            }
            if ((size_t)(end - p) < octets) break;
            take_message(fleet, session, p, octets, at);
            p += octets;
        }
        session->rest_octets = end - p;
        memcpy(session->rest, p, session->rest_octets);
    } while (got == room);
}

static void on_connected(struct fleet *fleet, struct session *session) {
    uint8_t message[MAX_MESSAGE_OCTETS];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(session->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        lost(fleet, session, strerror(error));
        return;
    }
    session->state = OPEN_SENT;
    fleet_send(fleet, session, message, write_open(&fleet->load, session->id, message));
}

/* Once a second: KEEPALIVEs, and sessions that hang in the handshake. */
static void sweep(struct fleet *fleet, double at) {
    uint8_t message[MAX_MESSAGE_OCTETS];
    for (uint32_t i = 0; i < fleet->opened; i++) {
        struct session *session = &fleet->sessions[i];
        if (session->state >= OPEN_CONFIRM && at - session->spoke_at > fleet->load.hold_time / 3.0)
            fleet_send(fleet, session, message, write_keepalive(message));
        else if (session->state != CLOSED && session->state != ESTABLISHED && at - session->began > HANDSHAKE_TIME)
            lost(fleet, session, "no answer");
    }
    fleet->swept_at = at;
}

void fleet_turn(struct fleet *fleet, double seconds) {
    struct epoll_event events[256];
    int count = epoll_wait(fleet->epoll, events, 256, (int)(seconds * 1000 + 0.5));
    for (int i = 0; i < count; i++) {
        struct session *session = &fleet->sessions[events[i].data.u32];
        if (session->state == CLOSED) continue;
        if (session->state == CONNECTING) {
            on_connected(fleet, session);
            continue;
        }
        if (events[i].events & EPOLLOUT) flush(fleet, session);
        if (events[i].events & ~EPOLLOUT) on_readable(fleet, session);
    }
    double at = now();
    if (at - fleet->swept_at > 1) sweep(fleet, at);
    if (at > fleet->deadline) fail(fleet, "the time limit is over");
}
