/* A program that prices orders, and crashes in one of them: what a report shows of it is worth a look.
 *
 *   cc -g price_orders.c $(gimli --cflags --libs) -o price_orders
 *   gimli run -- ./price_orders [ORDERS]
 *
 * The third order (or the one numbered ORDERS) has a voucher of a campaign that has ended. Twelve calls down,
 * somebody forgot that such a campaign is gone from memory.
 */
#include <libgimli.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Each function stays a frame of its own, whatever the optimisation. */
#define STEP __attribute__((noinline))

enum currency { CURRENCY_EUR = 978, CURRENCY_GBP = 826, CURRENCY_USD = 840 };

enum customer_kind { CUSTOMER_PRIVATE, CUSTOMER_RETAILER, CUSTOMER_STAFF };

struct money {
    int64_t cents;
    enum currency currency;
};

struct flags {
    unsigned int gift_wrapped : 1;
    unsigned int express : 1;
    unsigned int priority : 3;
    signed int loyalty_years : 6;
};

struct campaign {
    char title[32];
    int percent_off;
};

/* What takes something off the price: a voucher by its campaign, or a fixed amount. */
enum discount_kind { DISCOUNT_NONE, DISCOUNT_VOUCHER, DISCOUNT_FIXED };

struct discount {
    enum discount_kind kind;
    union {
        const struct campaign *campaign;
        struct money amount;
    } by;
};

struct item {
    const char *name;
    unsigned int quantity;
    struct money unit_price;
};

struct customer {
    const char *name;
    enum customer_kind kind;
    struct {
        char street[24];
        char postcode[8];
    } address;
};

struct order {
    unsigned int number;
    struct flags flags;
    const struct customer *customer;
    size_t item_count;
    struct item items[3];
    struct discount discount;
};

static const struct campaign spring = {"spring cleaning", 15};
static const struct customer customers[] = {
    {"Ada Lovelace", CUSTOMER_PRIVATE, {"12 St James's Square", "SW1Y 4JH"}},
    {"Durin & Sons", CUSTOMER_RETAILER, {"1 Misty Mountains", "MO 0001"}},
};

static struct money zero(enum currency currency)
{
    return (struct money){.cents = 0, .currency = currency};
}

/* The bug: the campaign of a voucher that has expired is NULL. */
STEP static int percent_of(const struct campaign *campaign, const char *who)
{
    int percent = campaign->percent_off;
    return who[0] == '\0' ? 0 : percent;
}

STEP static struct money voucher_amount(const struct discount *discount, struct money price, const char *who)
{
    int64_t hundredths = price.cents * percent_of(discount->by.campaign, who);
    return (struct money){.cents = hundredths / 100, .currency = price.currency};
}

STEP static struct money discount_amount(const struct discount *discount, struct money price, const char *who)
{
    struct money off = zero(price.currency);
    switch (discount->kind) {
    case DISCOUNT_NONE:
        break;
    case DISCOUNT_VOUCHER:
        off = voucher_amount(discount, price, who);
        break;
    case DISCOUNT_FIXED:
        off = discount->by.amount;
        break;
    }
    return off;
}

STEP static struct money discounted(const struct order *order, struct money price)
{
    struct money off = discount_amount(&order->discount, price, order->customer->name);
    price.cents -= off.cents;
    return price;
}

STEP static struct money with_shipping(const struct order *order, struct money price)
{
    struct flags flags = order->flags;
    struct money net = discounted(order, price);
    net.cents += flags.express ? 990 : 490;
    return net;
}

STEP static struct money with_wrapping(const struct order *order, struct money price)
{
    char label[24];
    snprintf(label, sizeof label, "wrap-%u", order->number);
    struct money wrapped = with_shipping(order, price);
    wrapped.cents += order->flags.gift_wrapped ? (int64_t)strlen(label) * 10 : 0;
    return wrapped;
}

STEP static struct money with_tax(const struct order *order, struct money price)
{
    double rates[3] = {1.20, 1.00, 1.10}; /* by kind of customer */
    enum customer_kind kind = order->customer->kind;
    struct money net = with_wrapping(order, price);
    net.cents = (int64_t)((double)net.cents * rates[kind]);
    return net;
}

STEP static struct money sum_items(const struct order *order, struct money lines[], size_t count)
{
    struct money total = zero(lines[0].currency);
    for (size_t i = 0; i < count; i++)
        total.cents += lines[i].cents;
    struct money price = with_tax(order, total);
    return price;
}

STEP static struct money price_items(const struct order *order)
{
    struct money lines[3] = {{0, CURRENCY_EUR}, {0, CURRENCY_EUR}, {0, CURRENCY_EUR}};
    for (size_t i = 0; i < order->item_count; i++) {
        lines[i] = order->items[i].unit_price;
        lines[i].cents *= order->items[i].quantity;
    }
    struct money price = sum_items(order, lines, order->item_count);
    return price;
}

STEP static struct money price_order(const struct order *order)
{
    struct money price = price_items(order);
    if (price.cents < 0)
        price.cents = 0;
    return price;
}

STEP static struct order read_order(unsigned int number, unsigned int expired)
{
    struct order order = {
        .number = number,
        .flags = {.gift_wrapped = number % 2, .express = 1, .priority = 5, .loyalty_years = -1},
        .customer = &customers[number % 2],
        .item_count = 3,
        .items =
            {
                {"rope, 50 ft", 2, {1995, CURRENCY_EUR}},
                {"lantern", 1, {3450, CURRENCY_EUR}},
                {"lembas", 12, {125, CURRENCY_EUR}},
            },
        .discount = {.kind = DISCOUNT_VOUCHER, .by = {.campaign = number == expired ? NULL : &spring}},
    };
    return order;
}

STEP static int serve(volatile struct gimli_heartbeat *hb, unsigned int expired)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    for (unsigned int number = 1;; number++) {
        gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
        gimli_note("pricing order %u", number);
        struct order order = read_order(number, expired);
        printf("order %u for %s\n", number, order.customer->name);
        struct money price = price_order(&order);
        printf("order %u costs %.2f\n", number, (double)price.cents / 100);
        nanosleep(&pause, NULL);
    }
    return 0;
}

int main(int argc, char *argv[])
{
    unsigned int expired = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    return serve(gimli_heartbeat_attach(), expired);
}
