#include "damage.h"

#include <stdlib.h>
#include <string.h>

static uint64_t state;

void seed_draws(uint64_t seed) { state = seed * 0x9e3779b97f4a7c15u + 1; }

uint64_t draw(uint64_t count) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % count;
}

static int64_t strange_int(int64_t old) {
    static const int64_t values[] = {0, -1, 1, 2, 3, 4, 5, 7, 127, 128, 255, 256, -128, -129, 1 << 12, 1 << 16, 1 << 24,
                                     (1 << 24) + 1, 1 << 28, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1ll << 32};
    const uint64_t which = draw(sizeof values / sizeof *values + 8);
    return which < sizeof values / sizeof *values ? values[which] : (int64_t)((uint64_t)old + draw(5) - 2);
}
static float strange_float(void) {
    static const float values[] = {0, -0.0f, 1, -1, 1e30f, -1e30f, 3e38f, 1e-40f, __builtin_inff(), -__builtin_inff(),
                                   __builtin_nanf(""), 2147483648.0f, -2147483648.0f, 8388608.5f};
    return values[draw(sizeof values / sizeof *values)];
}

/* Gives a tensor other dimensions, with random bytes where it grows. */
static void reshape(OrtValue *x) {
    const int64_t before = elements_of(x);
    const OrtValue old = *x;
    const size_t at = x->rank ? (size_t)draw(x->rank) : 0;
    const uint64_t how = draw(6);
    if (how == 0 && x->rank < MOST_DIMS)
        x->dims[x->rank++] = (int64_t)draw(5);
    else if (how == 1 && x->rank)
        x->rank--;
    else if (x->rank)
        x->dims[at] = how == 2   ? 0
                      : how == 3 ? x->dims[at] * 2
                      : how == 4 ? (int64_t)draw(80)
                                 : x->dims[at] + 1 - 2 * (int64_t)draw(2);
    for (size_t i = 0; i < x->rank; i++)
        if (x->dims[i] < 0) x->dims[i] = 0;
    const int64_t after = elements_of(x);
    if (after > 1 << 20) {
        *x = old;
        return;
    }
    const size_t size = element_bytes(x->type);
    uint8_t *data = malloc(size * (size_t)after);
    memcpy(data, x->data, size * (size_t)(after < before ? after : before));
    for (size_t i = size * (size_t)before; i < size * (size_t)after; i++) data[i] = (uint8_t)draw(256);
    free(x->data);
    x->data = data;
}

/* A word of the header, a byte of it, or of positions and values. */
static void damage_bytes(OrtValue *x) {
    const uint64_t bytes = (uint64_t)elements_of(x) * element_bytes(x->type);
    uint8_t *data = x->data;
    if (!bytes) return;
    if (x->type == ORT_FLOAT) {
        const float value = strange_float();
        memcpy(data + 4 * draw(bytes / 4), &value, 4);
    } else if (x->type == ORT_INT32) {
        const int32_t value = (int32_t)strange_int(0);
        memcpy(data + 4 * draw(bytes / 4), &value, 4);
    } else if (bytes > 28 && draw(2)) {
        uint32_t word;
        uint8_t *field = data + 8 + 4 * draw(5);
        memcpy(&word, field, 4);
        word = (uint32_t)strange_int(word);
        memcpy(field, &word, 4);
    } else {
        data[draw(bytes > 28 && draw(2) ? 28 : bytes)] ^= (uint8_t)(1 + draw(255));
    }
}

static void damage_attribute(node *n) {
    if (!n->attribute_count) return;
    attribute *a = n->attribute + draw(n->attribute_count);
    if (draw(8) == 0)
        *a = n->attribute[--n->attribute_count];
    else if (draw(8) == 0)
        a->kind = (uint32_t)draw(3), a->count = a->count ? a->count : 1;
    else if (a->kind == ATTRIBUTE_FLOAT)
        a->number = strange_float();
    else if (a->kind == ATTRIBUTE_INTS && draw(8) == 0)
        a->count = (uint32_t)draw(draw(2) ? MOST_INTS : 8);
    else if (a->count)
        a->ints[draw(a->count)] = strange_int(a->ints[draw(a->count)]);
}

void damage(node *n) {
    for (uint64_t count = 1 + draw(3); count; count--) {
        OrtValue *x = n->input[draw(n->input_count)];
        if (!x) x = n->input[0];
        const uint64_t how = draw(16);
        if (how < 6) damage_attribute(n);
        else if (how < 11) damage_bytes(n->input_count > 1 && n->input[1]->constant && draw(3) ? n->input[1] : x);
        else if (how < 14) reshape(x);
        else if (how < 15) x->constant ^= 1;
        else if ((n->input_count == 4 && n->input[2]->type == ORT_FLOAT && n->op[0] == 'S') || (n->input_count > (n->op[6] == 'M' ? 5 : 4) && strcmp(n->op, "SparseConvDepthwise")))
            n->input_count--;
    }
}
