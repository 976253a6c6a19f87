/* A fleet of BGP sessions to one target, each from a loopback address of its own, on one epoll loop. */
#ifndef FLEET_H
#define FLEET_H

#include <netinet/in.h>

#include "wire.h"

enum state { CLOSED, CONNECTING, OPEN_SENT, OPEN_CONFIRM, ESTABLISHED };

struct session {
    uint32_t id;
    enum state state;
    int fd;
    double began, established_at, complete_at, spoke_at; /* complete: it holds all that others announce */
    uint64_t *holds;                                     /* a bit a prefix */
    uint32_t held, wanted;
    uint32_t watched; /* the watch that it has seen the prefix of */
    uint8_t *out;     /* octets to send */
    size_t out_at, out_end, out_room;
    size_t rest_octets;
    uint8_t rest[MAX_MESSAGE_OCTETS]; /* of a message that came in part */
};

/* How long one change takes to the others. */
struct watch {
    uint32_t number, prefix;
    bool withdrawn;
    uint32_t seen;
    double first, last;
};

struct fleet {
    struct load load;
    struct sockaddr_in target;
    uint32_t source; /* address of the first session, host byte order */
    struct session *sessions;
    uint32_t room, opened, established, complete;
    int epoll;
    double deadline, swept_at;
    uint32_t retries;
    uint64_t octets, updates, deliveries;
    uint64_t repeats, echoes; /* repeats: a prefix that was held already; echoes: the session's own */
    struct watch watch;
    char problem[160]; /* empty, or why the run cannot go on */
};

double now(void); /* seconds, monotonic */

/* Room for `sessions` sessions; false and a problem where the system does not give it. */
bool fleet_make(struct fleet *fleet, uint32_t sessions);
/* Begin to connect the next session. */
void fleet_open(struct fleet *fleet);
/* End a session with a NOTIFICATION. */
void fleet_close(struct fleet *fleet, struct session *session);
/* Queue octets and send what the socket takes. */
void fleet_send(struct fleet *fleet, struct session *session, const uint8_t *octets, size_t count);
/* Announce, or withdraw, the prefixes from `first` up to `end`, all of them the session's. */
void fleet_update(struct fleet *fleet, struct session *session, uint32_t first, uint32_t end, bool withdraw);
/* Announce all prefixes of a feeder, and End-of-RIB. The other sessions send theirs as they come up. */
void fleet_announce_all(struct fleet *fleet, struct session *session);
/* One turn of the loop: wait at most `seconds` for something to happen, and handle all that did. */
void fleet_turn(struct fleet *fleet, double seconds);

#endif
