/* The kernels of one instruction-set level: compiled once for each, with LEVEL naming it. A body includes what it needs, so
 * that the order of these is no matter. docs/kernels.md has the arithmetic. */
#include "conv_depthwise.inc"
#include "convolution.inc"
#include "elementwise.inc"
#include "float_depthwise.inc"
#include "gather.inc"
#include "integer_attention.inc"
#include "integer_depthwise.inc"
#include "pooling.inc"
#include "product.inc"
#include "recurrent.inc"
#include "tokens.inc"

#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

extern const level JOINED(level_, LEVEL);
const level JOINED(level_, LEVEL) = {
    .name = TEXT(LEVEL), .lanes = WIDE, .signed_bytes = SIGNED_BYTES, .tile_f1 = TILE_F1, .tile_f4 = TILE_F4,
    .tile_i4 = TILE_I4, .by_lane = BY_LANE, .shared_rows = SHARED_ROWS, .in_lanes = WIDE == 16, .masked = MASKED_TILES,
    .copy_planes = copy_planes, .conv = conv, .conv_chunk = conv_chunk, .conv_depthwise = conv_depthwise,
    .depthwise = depthwise, .quantized_depthwise = quantized_depthwise, .max_pool = max_pool, .gemm = gemm,
    .gemm_panel = gemm_panel, .gemm_chain = gemm_chain, .norm = norm, .norm_planes = norm_planes, .copy_head = copy_head,
    .attention = attention, .copy_head_bytes = copy_head_bytes, .attention_bytes = attention_bytes,
    .recurrent = recurrent, .add = add, .multiply = multiply, .multiply_planes = multiply_planes, .table = table,
    .pack = pack, .unpack = unpack, .global_average = global_average, .gather = gather,
};
