#include "wire.h"

#include <string.h>

static const uint32_t FIRST_PREFIX = 0x0a000000;   /* 10.0.0.0 */
static const uint32_t FIRST_ROUTER = 0xac100001;   /* 172.16.0.1: next hops in 127.0.0.0/8 are refused by some */
static const uint32_t FIRST_COMMUNITY = 0xfc000000; /* 64512:0 */

enum attribute {
    ORIGIN = 1, AS_PATH = 2, NEXT_HOP = 3, LOCAL_PREF = 5, COMMUNITIES = 8, ORIGINATOR_ID = 9, CLUSTER_LIST = 10
};
enum { WELL_KNOWN = 0x40, OPTIONAL_TRANSITIVE = 0xc0, EXTENDED_LENGTH = 0x10 };

static uint8_t *put16(uint8_t *p, uint32_t value) {
    p[0] = value >> 8;
    p[1] = value;
    return p + 2;
}
static uint8_t *put32(uint8_t *p, uint32_t value) { return put16(put16(p, value >> 16), value); }
static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return get16(p) << 16 | get16(p + 2); }

/* The header of a message whose body ends at `end`. */
static size_t finish(uint8_t *out, enum message type, const uint8_t *end) {
    memset(out, 0xff, 16);
    put16(out + 16, end - out);
    out[18] = type;
    return end - out;
}

size_t write_open(const struct load *load, uint32_t router, uint8_t *out) {
    uint8_t *p = out + HEADER_OCTETS;
    *p++ = 4;
    p = put16(p, load->as > 0xffff ? 23456 : load->as);
    p = put16(p, load->hold_time);
    p = put32(p, FIRST_ROUTER + router);
    /* One capability a parameter is what every speaker reads: IPv4 unicast, route refresh, 4-octet AS. */
    static const uint8_t ipv4[] = {2, 6, 1, 4, 0, 1, 0, 1}, refresh[] = {2, 2, 2, 0}, wide[] = {2, 6, 65, 4};
    *p++ = sizeof ipv4 + sizeof refresh + sizeof wide + 4;
    p = (uint8_t *)memcpy(p, ipv4, sizeof ipv4) + sizeof ipv4;
    p = (uint8_t *)memcpy(p, refresh, sizeof refresh) + sizeof refresh;
    p = (uint8_t *)memcpy(p, wide, sizeof wide) + sizeof wide;
    p = put32(p, load->as);
    return finish(out, OPEN, p);
}

size_t write_keepalive(uint8_t *out) { return finish(out, KEEPALIVE, out + HEADER_OCTETS); }

size_t write_cease(uint8_t *out) {
    out[HEADER_OCTETS] = 6;     /* Cease */
    out[HEADER_OCTETS + 1] = 3; /* Peer De-configured (RFC 4486) */
    return finish(out, NOTIFICATION, out + HEADER_OCTETS + 2);
}

size_t write_end_of_rib(uint8_t *out) {
    memset(out + HEADER_OCTETS, 0, 4);
    return finish(out, UPDATE, out + HEADER_OCTETS + 4);
}

/* Prefixes from *prefix up to end, as many as fit before the message is full. */
static uint8_t *put_prefixes(const struct load *load, uint8_t *p, const uint8_t *full, uint32_t *prefix, uint32_t end) {
    size_t octets = (load->prefix_length + 7) / 8;
    for (; *prefix < end && p + 1 + octets <= full; ++*prefix) {
        uint8_t address[4];
        put32(address, FIRST_PREFIX + (*prefix << (32 - load->prefix_length)));
        *p++ = load->prefix_length;
        memcpy(p, address, octets);
        p += octets;
    }
    return p;
}

size_t write_announcement(const struct load *load, uint32_t router, uint32_t *prefix, uint32_t end, uint8_t *out) {
    uint8_t *p = put16(out + HEADER_OCTETS, 0), *length = p;
    uint8_t *attributes = p += 2;
    static const uint8_t head[] = {WELL_KNOWN, ORIGIN, 1, 0, WELL_KNOWN, AS_PATH, 0, WELL_KNOWN, NEXT_HOP, 4};
    p = (uint8_t *)memcpy(p, head, sizeof head) + sizeof head;
    p = put32(p, FIRST_ROUTER + router);
    static const uint8_t preference[] = {WELL_KNOWN, LOCAL_PREF, 4, 0, 0, 0, 100};
    p = (uint8_t *)memcpy(p, preference, sizeof preference) + sizeof preference;
    if (load->routes_a_set) {
        uint32_t set = *prefix / load->routes_a_set, set_end = (set + 1) * load->routes_a_set;
        static const uint8_t communities[] = {OPTIONAL_TRANSITIVE, COMMUNITIES, 4};
        p = (uint8_t *)memcpy(p, communities, sizeof communities) + sizeof communities;
        p = put32(p, FIRST_COMMUNITY + set);
        end = end < set_end ? end : set_end;
    }
    put16(length, p - attributes);
    return finish(out, UPDATE, put_prefixes(load, p, out + MAX_MESSAGE_OCTETS, prefix, end));
}

size_t write_withdrawal(const struct load *load, uint32_t *prefix, uint32_t end, uint8_t *out) {
    uint8_t *length = out + HEADER_OCTETS;
    uint8_t *p = put_prefixes(load, length + 2, out + MAX_MESSAGE_OCTETS - 2, prefix, end);
    put16(length, p - length - 2);
    return finish(out, UPDATE, put16(p, 0));
}

const char *read_update(const struct load *load, const uint8_t *body, const uint8_t *end, struct update *update) {
    if (end - body < 4 || end - body - 4 < (ptrdiff_t)get16(body)) return "an UPDATE with bad lengths";
    update->withdrawn = body + 2;
    update->withdrawn_end = update->withdrawn + get16(body);
    const uint8_t *p = update->withdrawn_end + 2;
    if (end - p < (ptrdiff_t)get16(p - 2)) return "an UPDATE with bad lengths";
    update->announced = p + get16(p - 2);
    update->announced_end = end;
    if (update->announced == end) return NULL;
    bool next_hop = false, clusters = false;
    uint32_t originator = 0;
    while (p < update->announced) {
        if (update->announced - p < 3) return "an attribute that is cut short";
        bool wide = p[0] & EXTENDED_LENGTH;
        uint8_t type = p[1];
        if (wide && update->announced - p < 4) return "an attribute that is cut short";
        size_t length = wide ? get16(p + 2) : p[2];
        p += wide ? 4 : 3;
        if ((size_t)(update->announced - p) < length) return "an attribute that is cut short";
        if (type == NEXT_HOP && length == 4) {
            update->from = get32(p) - FIRST_ROUTER;
            next_hop = true;
        } else if (type == ORIGINATOR_ID && length == 4) {
            originator = get32(p);
        } else if (type == CLUSTER_LIST && length >= 4) {
            clusters = true;
        }
        p += length;
    }
    if (!next_hop || update->from >= load->feeders) return "a route whose next hop is no router of the load";
    if (!clusters) return "a reflected route without CLUSTER_LIST";
    if (originator != FIRST_ROUTER + update->from) return "a reflected route without its router's ORIGINATOR_ID";
    return NULL;
}

bool read_prefix(const struct load *load, const uint8_t **at, const uint8_t *end, uint32_t *prefix) {
    const uint8_t *p = *at;
    ptrdiff_t octets = 1 + (load->prefix_length + 7) / 8;
    if (p[0] != load->prefix_length || end - p < octets) return false;
    uint32_t address = 0;
    for (ptrdiff_t i = 1; i < octets; i++) address |= (uint32_t)p[i] << (32 - 8 * i);
    *prefix = (address - FIRST_PREFIX) >> (32 - load->prefix_length);
    *at = p + octets;
    return *prefix < load->feeders * load->routes;
}
