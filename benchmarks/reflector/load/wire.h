/* The few BGP messages that a load generator writes, and the UPDATEs that it reads (RFC 4271).
 *
 * A load is `sessions` routers of one AS; the first `feeders` of them announce `routes` IPv4 prefixes each.
 * Everything is numbered: router i announces the prefixes i * routes up to (i + 1) * routes. The number of a
 * router is in its next hop and in its BGP identifier, that of a prefix in its address, so that what comes
 * back can be checked without a table. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEADER_OCTETS = 19, MAX_MESSAGE_OCTETS = 4096 };
enum message { OPEN = 1, UPDATE = 2, NOTIFICATION = 3, KEEPALIVE = 4 };

struct load {
    uint32_t as;
    uint32_t sessions;
    uint32_t feeders;
    uint32_t routes;
    uint32_t routes_a_set; /* routes that share one attribute set; 0: all of a router */
    int prefix_length;
    int hold_time; /* seconds */
};

/* Messages; each returns its length, at most MAX_MESSAGE_OCTETS. */
size_t write_open(const struct load *load, uint32_t router, uint8_t *out);
size_t write_keepalive(uint8_t *out);
size_t write_cease(uint8_t *out);
size_t write_end_of_rib(uint8_t *out); /* RFC 4724 section 2 */
/* Announces or withdraws prefixes from `*prefix` on, up to `end`, as many as one message holds; `*prefix`
 * moves on behind them. `router` is the one that announces. */
size_t write_announcement(const struct load *load, uint32_t router, uint32_t *prefix, uint32_t end, uint8_t *out);
size_t write_withdrawal(const struct load *load, uint32_t *prefix, uint32_t end, uint8_t *out);

/* One UPDATE, taken apart. The announced prefixes are all from router `from`. */
struct update {
    const uint8_t *withdrawn, *withdrawn_end;
    const uint8_t *announced, *announced_end;
    uint32_t from;
};
/* NULL, or what is wrong with the body of an UPDATE that a reflector sent: not well formed, a next hop that
 * is no router's, no CLUSTER_LIST, or an ORIGINATOR_ID that is not that of the router (RFC 4456). */
const char *read_update(const struct load *load, const uint8_t *body, const uint8_t *end, struct update *update);
/* The number of the prefix at `*at`, which moves on behind it; false where the octets end before it does, or
 * it is none of the load's. */
bool read_prefix(const struct load *load, const uint8_t **at, const uint8_t *end, uint32_t *prefix);

#endif
