/*
 * The disk behind virtio-blk: a virtual block device that another domain
 * serves (xen/io/blkif.h). One request at a time, through pages of our own that
 * the other domain may use. The initial domain has none: nobody would serve it.
 */

#include "core/port.h"
#include "store.h"
#include "xen.h"

#define SECTOR 512u
#define PAGE_SECTORS (PAGE_SIZE / SECTOR)
#define BUFFER_PAGES BLKIF_MAX_SEGMENTS_PER_REQUEST
#define EIO 5

/* xvda: major number 202, minor 0 (docs/man/xen-vbd-interface.7). */
#define DEVICE "device/vbd/51712"

DEFINE_RING_TYPES(disk, struct blkif_request, struct blkif_response);

static u8 grants_page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 ring_page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 buffer[BUFFER_PAGES * PAGE_SIZE] __attribute__((aligned(4096)));

static disk_front_ring_t ring;
static evtchn_port_t port;
static domid_t server;
static u64 sectors;
static bool can_flush;

/* Grant references below this one are Xen's own. */
#define FIRST_GRANT GNTTAB_NR_RESERVED_ENTRIES

static void grant(u32 reference, const void *page) {
    grant_entry_v1_t *entry = &((grant_entry_v1_t *)grants_page)[reference];
    entry->frame = memory_own_page(page).value;
    entry->domid = server;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    entry->flags = GTF_permit_access;
}

static void start_grants(void) {
    xen_pfn_t frame = 0;
    gnttab_setup_table_t setup = {.dom = DOMID_SELF, .nr_frames = 1};
    set_xen_guest_handle(setup.frame_list, (unsigned long *)&frame);
    long result = HYPERCALL(grant_table_op, GNTTABOP_setup_table, &setup, 1);
    if (result || setup.status)
        xen_refused("grant_table_op setup_table", result ? result : setup.status, 0, 0);
    memory_map_own(grants_page, (mfn_t){frame}, true);
}

static void start_port(void) {
    evtchn_alloc_unbound_t allocate = {.dom = DOMID_SELF, .remote_dom = server};
    long result = HYPERCALL(event_channel_op, EVTCHNOP_alloc_unbound, &allocate);
    if (result)
        xen_refused("event_channel_op alloc_unbound", result, server, 0);
    port = allocate.port;
    shared_info.evtchn_mask[port / 32] &= ~(1u << port % 32);
}

static void join(char to[STORE_TEXT], const char *a, const char *b) {
    u32 length = 0;
    for (; *a && length < STORE_TEXT - 1; a++)
        to[length++] = *a;
    for (; *b && length < STORE_TEXT - 1; b++)
        to[length++] = *b;
    to[length] = 0;
}

static bool backend_number(const char *backend, const char *key, u64 *number) {
    char path[STORE_TEXT];
    join(path, backend, key);
    return store_read_number(path, number);
}

/* xenbus.h: both sides go through the states; each waits for the other's. */
static bool wait_for(const char *backend, enum xenbus_state wanted) {
    u64 state = 0;
    for (u32 tries = 0; tries < 1000; tries++) {
        if (!backend_number(backend, "/state", &state))
            return false;
        if (state == wanted)
            return true;
        if (state >= XenbusStateClosing)
            return false;
        port_wait(port, 10000000);
    }
    return false;
}

void disk_start(void) {
    char backend[STORE_TEXT];
    u64 number;
    if (!store_read(DEVICE "/backend", backend) || !store_read_number(DEVICE "/backend-id", &number))
        return;
    server = number;
    start_grants();
    start_port();
    SHARED_RING_INIT((disk_sring_t *)ring_page);
    FRONT_RING_INIT(&ring, (disk_sring_t *)ring_page, PAGE_SIZE);
    grant(FIRST_GRANT, ring_page);
    for (u32 i = 0; i < BUFFER_PAGES; i++)
        grant(FIRST_GRANT + 1 + i, buffer + i * PAGE_SIZE);
    bool told = store_write_number(DEVICE "/ring-ref", FIRST_GRANT) &&
                store_write_number(DEVICE "/event-channel", port) &&
                store_write(DEVICE "/protocol", XEN_IO_PROTO_ABI_X86_32) &&
                store_write_number(DEVICE "/state", XenbusStateInitialised);
    if (!told || !wait_for(backend, XenbusStateConnected) || !backend_number(backend, "/sectors", &sectors))
        xen_fail("the disk's backend does not connect");
    can_flush = backend_number(backend, "/feature-flush-cache", &number) && number;
    store_write_number(DEVICE "/state", XenbusStateConnected);
}

u64 port_disk_sectors(void) { return sectors; }

/* One request over the first `bytes` bytes of the buffer; waits for its end. */
static int request(u8 operation, u64 sector, u32 bytes) {
    struct blkif_request *to = RING_GET_REQUEST(&ring, ring.req_prod_pvt);
    memset(to, 0, sizeof *to);
    to->operation = operation;
    to->nr_segments = (bytes + PAGE_SIZE - 1) / PAGE_SIZE;
    to->handle = 51712;
    to->sector_number = sector;
    for (u32 i = 0; i < to->nr_segments; i++) {
        u32 rest = bytes - i * PAGE_SIZE;
        to->seg[i].gref = FIRST_GRANT + 1 + i;
        to->seg[i].first_sect = 0;
        to->seg[i].last_sect = (rest < PAGE_SIZE ? rest / SECTOR : PAGE_SECTORS) - 1;
    }
    ring.req_prod_pvt++;
    RING_PUSH_REQUESTS(&ring);
    evtchn_send_t send = {.port = port};
    HYPERCALL(event_channel_op, EVTCHNOP_send, &send);
    int more;
    for (;;) {
        RING_FINAL_CHECK_FOR_RESPONSES(&ring, more);
        if (more)
            break;
        port_wait(port, 100000000);
    }
    s16 status = RING_GET_RESPONSE(&ring, ring.rsp_cons)->status;
    ring.rsp_cons++;
    return status == BLKIF_RSP_OKAY ? 0 : -EIO;
}

int port_disk_read(u64 sector, void *to, u32 size) {
    for (u8 *at = to; size;) {
        u32 chunk = size < sizeof buffer ? size : sizeof buffer;
        if (request(BLKIF_OP_READ, sector, chunk))
            return -EIO;
        memcpy(at, buffer, chunk);
        at += chunk;
        sector += chunk / SECTOR;
        size -= chunk;
    }
    return 0;
}

int port_disk_write(u64 sector, const void *from, u32 size) {
    for (const u8 *at = from; size;) {
        u32 chunk = size < sizeof buffer ? size : sizeof buffer;
        memcpy(buffer, at, chunk);
        if (request(BLKIF_OP_WRITE, sector, chunk))
            return -EIO;
        at += chunk;
        sector += chunk / SECTOR;
        size -= chunk;
    }
    return 0;
}

int port_disk_flush(void) { return can_flush ? request(BLKIF_OP_FLUSH_DISKCACHE, 0, 0) : 0; }
