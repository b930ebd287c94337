/*
 * Xenstore's client: a request at a time, and its answer is waited for. By
 * itself the store tells us only when somebody has written what we watch.
 */

#include "store.h"

#include "run/run.h"
#include "xen.h"

static u8 ring_page[PAGE_SIZE] __attribute__((aligned(4096)));
static volatile struct xenstore_domain_interface *const ring = (volatile void *)ring_page;
evtchn_port_t store_port;

/* Where `xl sysrq` puts its letter (libxl_send_sysrq). */
#define ORDER "control/sysrq"
static bool ordered; /* there may be one */

/* Until the other side has done something; it need not have been for us. */
static void wait(void) {
    evtchn_send_t send = {.port = store_port};
    HYPERCALL(event_channel_op, EVTCHNOP_send, &send);
    port_wait(store_port, 10000000);
}

static void send(const void *from, u32 size) {
    const u8 *at = from;
    while (size) {
        if (ring->req_prod - ring->req_cons >= XENSTORE_RING_SIZE) {
            wait();
            continue;
        }
        ring->req[MASK_XENSTORE_IDX(ring->req_prod)] = *at++;
        __atomic_thread_fence(__ATOMIC_RELEASE);
        ring->req_prod++;
        size--;
    }
}

/* `to` may be NULL: what comes is dropped. */
static void receive(void *to, u32 size) {
    u8 *at = to;
    while (size) {
        if (ring->rsp_prod == ring->rsp_cons) {
            wait();
            continue;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        u8 byte = ring->rsp[MASK_XENSTORE_IDX(ring->rsp_cons)];
        ring->rsp_cons++;
        if (at)
            *at++ = byte;
        size--;
    }
}

static u32 length_of(const char *text) {
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

/* The answer's text in `answer`, cut off at its size. */
static bool request(u32 type, const char *path, const char *value, u32 value_length, char answer[STORE_TEXT]) {
    static u32 number;
    u32 path_length = length_of(path) + 1;
    struct xsd_sockmsg message = {.type = type, .req_id = ++number, .len = path_length + value_length};
    send(&message, sizeof message);
    send(path, path_length);
    send(value, value_length);
    evtchn_send_t notice = {.port = store_port};
    HYPERCALL(event_channel_op, EVTCHNOP_send, &notice);
    for (;;) {
        receive(&message, sizeof message);
        ordered |= message.type == XS_WATCH_EVENT;
        bool ours = message.req_id == number && message.type != XS_WATCH_EVENT;
        u32 taken = ours && message.len < STORE_TEXT ? message.len : 0;
        receive(answer, taken);
        receive(NULL, message.len - taken);
        answer[taken] = 0;
        if (ours)
            return message.type != XS_ERROR;
    }
}

bool store_read(const char *path, char text[STORE_TEXT]) { return request(XS_READ, path, NULL, 0, text); }

bool store_read_number(const char *path, u64 *number) {
    char text[STORE_TEXT];
    if (!store_read(path, text) || !text[0])
        return false;
    *number = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9')
            return false;
        *number = *number * 10 + (*at - '0');
    }
    return true;
}

bool store_write(const char *path, const char *text) {
    char answer[STORE_TEXT];
    return request(XS_WRITE, path, text, length_of(text), answer);
}

bool store_write_number(const char *path, u32 number) {
    char digits[12], *at = digits + sizeof digits - 1;
    *at = 0;
    do
        *--at = '0' + number % 10;
    while (number /= 10);
    return store_write(path, at);
}

void store_start(void) {
    store_port = start_info->store_evtchn;
    memory_map_own(ring_page, (mfn_t){start_info->store_mfn}, true);
    shared_info.evtchn_mask[store_port / 32] &= ~(1u << store_port % 32);
    static const char token[] = "order";
    char answer[STORE_TEXT];
    request(XS_WATCH, ORDER, token, sizeof token, answer);
}

void store_poll(void) {
    char text[STORE_TEXT];
    struct xsd_sockmsg message;
    while (ring->rsp_prod != ring->rsp_cons) {
        receive(&message, sizeof message);
        receive(NULL, message.len);
        ordered |= message.type == XS_WATCH_EVENT;
    }
    while (ordered) {
        ordered = false;
        if (!store_read(ORDER, text) || !text[0])
            continue;
        store_write(ORDER, "");
        console_order(text[0]);
    }
}
