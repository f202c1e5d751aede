/* The kernels of one level, by name. */
#include "level.h"

#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

extern const level OF_LEVEL(level);
const level OF_LEVEL(level) = {
    .name = TEXT(LEVEL),
    .lanes = WIDE,
    .signed_bytes = SIGNED_BYTES,
    .tile_f1 = TILE_F1,
    .tile_f4 = TILE_F4,
    .tile_i4 = TILE_I4,
    .by_lane = BY_LANE,
    .masked = MASKED_TILES,
    .copy_planes = OF_LEVEL(copy_planes),
    .conv = OF_LEVEL(conv),
    .conv_chunk = OF_LEVEL(conv_chunk),
    .depthwise = OF_LEVEL(depthwise),
    .quantized_depthwise = OF_LEVEL(quantized_depthwise),
    .max_pool = OF_LEVEL(max_pool),
    .gemm = OF_LEVEL(gemm),
    .gemm_panel = OF_LEVEL(gemm_panel),
    .add = OF_LEVEL(add),
    .pack = OF_LEVEL(pack),
    .unpack = OF_LEVEL(unpack),
    .global_average = OF_LEVEL(global_average),
};
