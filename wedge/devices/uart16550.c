/*
 * The 16550A serial port COM1 (National PC16550D data sheet). Its line has no
 * speed: a byte is gone the moment it is written, and the transmitter is
 * always empty. OUT2 gates the interrupt, as on every PC.
 */

#include "clock.h"
#include "internal.h"

enum {
    IER_RECEIVED = 1 << 0,
    IER_TRANSMITTED = 1 << 1,
    IER_LINE_STATUS = 1 << 2,
    IER_MODEM_STATUS = 1 << 3,
    IIR_NONE = 0x01,
    IIR_MODEM_STATUS = 0x00,
    IIR_TRANSMITTED = 0x02,
    IIR_RECEIVED = 0x04,
    IIR_LINE_STATUS = 0x06,
    IIR_TIMEOUT = 0x0c,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 1 << 0,
    FCR_CLEAR_RECEIVER = 1 << 1,
    FCR_CLEAR_TRANSMITTER = 1 << 2,
    FCR_KEPT = 0xc9,
    LCR_DLAB = 1 << 7,
    MCR_DTR = 1 << 0,
    MCR_RTS = 1 << 1,
    MCR_OUT1 = 1 << 2,
    MCR_OUT2 = 1 << 3,
    MCR_LOOP = 1 << 4,
    MCR_WRITABLE = 0x1f,
    LSR_DATA = 1 << 0,
    LSR_OVERRUN = 1 << 1,
    LSR_ERRORS = 0x1e, /* overrun, parity, framing, break */
    LSR_EMPTY = 0x60, /* holding register and shift register */
    MSR_DELTAS = 0x0f,
    MSR_RI_FELL = 1 << 2,
    MSR_CTS = 1 << 4,
    MSR_DSR = 1 << 5,
    MSR_RI = 1 << 6,
    MSR_DCD = 1 << 7,
    MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD,
};

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = RBR, FCR = IIR, DLL = RBR, DLM = IER };

enum { FIFO_SIZE = 16, CLOCK = 1843200, TIMEOUT_CHARACTERS = 4 };

static struct uart16550 *const uart = &machine_devices.uart16550;

static bool has_fifo(void) { return uart->fcr & FCR_ENABLE; }

static unsigned trigger_level(void) {
    static const u8 levels[4] = {1, 4, 8, 14};
    return has_fifo() ? levels[uart->fcr >> 6] : 1;
}

/* The interrupt of highest priority (data sheet, table V). */
static u8 interrupt_id(void) {
    if (uart->ier & IER_LINE_STATUS && uart->lsr & LSR_ERRORS)
        return IIR_LINE_STATUS;
    if (uart->ier & IER_RECEIVED && uart->timeout_pending)
        return IIR_TIMEOUT;
    if (uart->ier & IER_RECEIVED && uart->lsr & LSR_DATA && (!has_fifo() || uart->length >= trigger_level()))
        return IIR_RECEIVED;
    if (uart->ier & IER_TRANSMITTED && uart->thre_pending)
        return IIR_TRANSMITTED;
    if (uart->ier & IER_MODEM_STATUS && uart->msr & MSR_DELTAS)
        return IIR_MODEM_STATUS;
    return IIR_NONE;
}

static void update_irq(void) { i8259_set_irq(IRQ_UART, interrupt_id() != IIR_NONE && uart->mcr & MCR_OUT2); }

/* Bytes below the trigger level are announced when none was moved for four characters' time. */
static void restart_timeout(void) {
    u32 divisor = (u32)(uart->dlm << 8 | uart->dll);
    u32 bits = 7 + (uart->lcr & 3) + (uart->lcr >> 2 & 1) + (uart->lcr >> 3 & 1);
    uart->timeout_pending = 0;
    uart->deadline = NEVER;
    if (has_fifo() && uart->length)
        uart->deadline = port_time() + time_from_clocks(16ull * bits * (divisor ? divisor : 1) * TIMEOUT_CHARACTERS, CLOCK);
}

void uart_run(u64 now) {
    if (now < uart->deadline)
        return;
    uart->deadline = NEVER;
    uart->timeout_pending = 1;
    update_irq();
}

static void receive(u8 byte) {
    if (!has_fifo()) {
        if (uart->lsr & LSR_DATA)
            uart->lsr |= LSR_OVERRUN;
        uart->rbr = byte;
    } else if (uart->length == FIFO_SIZE) {
        uart->lsr |= LSR_OVERRUN;
    } else {
        uart->fifo[(uart->head + uart->length++) % FIFO_SIZE] = byte;
    }
    uart->lsr |= LSR_DATA;
    restart_timeout();
    update_irq();
}

void uart_receive(u8 byte) { receive(byte); }

bool uart_can_receive(void) {
    if (uart->mcr & MCR_LOOP)
        return false;
    return has_fifo() ? uart->length < FIFO_SIZE : !(uart->lsr & LSR_DATA);
}

static u8 read_received(void) {
    u8 byte = uart->rbr;
    if (has_fifo()) {
        byte = uart->length ? uart->fifo[uart->head] : 0;
        uart->head = (uart->head + (uart->length > 0)) % FIFO_SIZE;
        uart->length -= uart->length > 0;
    }
    if (!uart->length)
        uart->lsr &= ~LSR_DATA;
    restart_timeout();
    update_irq();
    return byte;
}

static void transmit(u8 byte) {
    uart->thre_pending = 0;
    update_irq();
    if (uart->mcr & MCR_LOOP)
        receive(byte);
    else
        port_console_write(byte);
    uart->thre_pending = 1;
    update_irq();
}

static void write_ier(u8 value) {
    u8 enabled = value & ~uart->ier;
    uart->ier = value & 0x0f;
    if (enabled & IER_TRANSMITTED)
        uart->thre_pending = 1; /* the transmitter is empty */
    update_irq();
}

static void write_fcr(u8 value) {
    if ((value ^ uart->fcr) & FCR_ENABLE)
        value |= FCR_CLEAR_RECEIVER | FCR_CLEAR_TRANSMITTER;
    if (value & FCR_CLEAR_RECEIVER) {
        uart->length = 0;
        uart->lsr &= ~LSR_DATA;
    }
    if (value & FCR_CLEAR_TRANSMITTER)
        uart->thre_pending = 1;
    uart->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
    restart_timeout();
    update_irq();
}

/* In loopback the modem's outputs are its inputs; otherwise a terminal is always connected. */
static void write_mcr(u8 value) {
    uart->mcr = value & MCR_WRITABLE;
    u8 lines = MSR_CONNECTED;
    if (value & MCR_LOOP)
        lines = (value & MCR_RTS ? MSR_CTS : 0) | (value & MCR_DTR ? MSR_DSR : 0) | (value & MCR_OUT1 ? MSR_RI : 0) |
                (value & MCR_OUT2 ? MSR_DCD : 0);
    u8 changed = (uart->msr ^ lines) & (MSR_CTS | MSR_DSR | MSR_DCD);
    if (uart->msr & MSR_RI && !(lines & MSR_RI))
        changed |= MSR_RI;
    uart->msr = (u8)(lines | (uart->msr & MSR_DELTAS) | changed >> 4);
    update_irq();
}

static u8 read_iir(void) {
    u8 id = interrupt_id();
    if (id == IIR_TRANSMITTED) {
        uart->thre_pending = 0;
        update_irq();
    }
    return id | (has_fifo() ? IIR_FIFO : 0);
}

/* The guest has just read that there is no byte; twice in a row, and it waits for one. */
static bool looked;

static u8 read_lsr(bool again) {
    u8 value = uart->lsr;
    uart->lsr &= ~LSR_ERRORS;
    update_irq();
    looked = !(value & LSR_DATA);
    if (looked && again)
        port_console_awaited();
    return value;
}

static u8 read_msr(void) {
    u8 value = uart->msr;
    uart->msr &= ~MSR_DELTAS;
    update_irq();
    return value;
}

u8 uart_read(u16 port) {
    bool divisor = uart->lcr & LCR_DLAB, again = looked;
    looked = false;
    if (uart->deadline != NEVER)
        uart_run(port_time());
    switch (port & 7) {
    case RBR:
        return divisor ? uart->dll : read_received();
    case IER:
        return divisor ? uart->dlm : uart->ier;
    case IIR:
        return read_iir();
    case LCR:
        return uart->lcr;
    case MCR:
        return uart->mcr;
    case LSR:
        return read_lsr(again);
    case MSR:
        return read_msr();
    default:
        return uart->scr;
    }
}

void uart_write(u16 port, u8 value) {
    bool divisor = uart->lcr & LCR_DLAB;
    looked = false;
    switch (port & 7) {
    case THR:
        if (divisor)
            uart->dll = value;
        else
            transmit(value);
        break;
    case IER:
        if (divisor)
            uart->dlm = value;
        else
            write_ier(value);
        break;
    case FCR:
        write_fcr(value);
        break;
    case LCR:
        uart->lcr = value;
        break;
    case MCR:
        write_mcr(value);
        break;
    case SCR:
        uart->scr = value;
        break;
    default:
        break; /* LSR and MSR are read-only */
    }
}

void uart_reset(void) {
    *uart = (struct uart16550){
        .deadline = NEVER,
        .lsr = LSR_EMPTY,
        .msr = MSR_CONNECTED,
        .mcr = MCR_OUT2,
        .dll = 12, /* 9600 baud */
    };
}
