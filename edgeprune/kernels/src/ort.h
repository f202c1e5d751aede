/* The part of ONNX Runtime's C API that the operators use (API version 17, onnxruntime 1.17).
 *
 * The interface is a struct of function pointers whose order never changes. FUNCTION puts one at its index, so that those
 * that are not used need no name; tests/kernels/test_interface.py has the indices as the runtime's own header has them. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 17

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtCustomOp OrtCustomOp;
typedef union OrtApi OrtApi;

typedef struct {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT32 = 6 };
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };

#define FUNCTION(index, result, name, ...) \
    struct { \
        void *before_##name[index]; \
        result (*name)(__VA_ARGS__); \
    }
union OrtApi {
    FUNCTION(0, OrtStatus *, CreateStatus, int code, const char *message);
    FUNCTION(26, OrtStatus *, CreateCustomOpDomain, const char *name, OrtCustomOpDomain **out);
    FUNCTION(27, OrtStatus *, CustomOpDomain_Add, OrtCustomOpDomain *domain, const OrtCustomOp *op);
    FUNCTION(28, OrtStatus *, AddCustomOpDomain, OrtSessionOptions *options, OrtCustomOpDomain *domain);
    FUNCTION(51, OrtStatus *, GetTensorMutableData, OrtValue *value, void **out);
    FUNCTION(60, OrtStatus *, GetTensorElementType, const OrtTensorTypeAndShapeInfo *info, int *out);
    FUNCTION(61, OrtStatus *, GetDimensionsCount, const OrtTensorTypeAndShapeInfo *info, size_t *out);
    FUNCTION(62, OrtStatus *, GetDimensions, const OrtTensorTypeAndShapeInfo *info, int64_t *out, size_t count);
    FUNCTION(65, OrtStatus *, GetTensorTypeAndShape, const OrtValue *value, OrtTensorTypeAndShapeInfo **out);
    FUNCTION(75, OrtStatus *, AllocatorAlloc, OrtAllocator *allocator, size_t size, void **out);
    FUNCTION(76, OrtStatus *, AllocatorFree, OrtAllocator *allocator, void *memory);
    FUNCTION(78, OrtStatus *, GetAllocatorWithDefaultOptions, OrtAllocator **out);
    FUNCTION(85, OrtStatus *, KernelInfoGetAttribute_float, const OrtKernelInfo *info, const char *name, float *out);
    FUNCTION(86, OrtStatus *, KernelInfoGetAttribute_int64, const OrtKernelInfo *info, const char *name, int64_t *out);
    FUNCTION(87, OrtStatus *, KernelInfoGetAttribute_string, const OrtKernelInfo *info, const char *name, char *out,
             size_t *size);
    FUNCTION(88, OrtStatus *, KernelContext_GetInputCount, const OrtKernelContext *context, size_t *out);
    FUNCTION(90, OrtStatus *, KernelContext_GetInput, const OrtKernelContext *context, size_t index, const OrtValue **out);
    FUNCTION(91, OrtStatus *, KernelContext_GetOutput, OrtKernelContext *context, size_t index, const int64_t *dims,
             size_t count, OrtValue **out);
    FUNCTION(93, void, ReleaseStatus, OrtStatus *status);
    FUNCTION(96, void, ReleaseValue, OrtValue *value);
    FUNCTION(99, void, ReleaseTensorTypeAndShapeInfo, OrtTensorTypeAndShapeInfo *info);
    FUNCTION(101, void, ReleaseCustomOpDomain, OrtCustomOpDomain *domain);
    FUNCTION(162, OrtStatus *, KernelInfoGetAttributeArray_float, const OrtKernelInfo *info, const char *name, float *out,
             size_t *count);
    FUNCTION(163, OrtStatus *, KernelInfoGetAttributeArray_int64, const OrtKernelInfo *info, const char *name, int64_t *out,
             size_t *count);
    FUNCTION(230, OrtStatus *, KernelInfo_GetInputCount, const OrtKernelInfo *info, size_t *out);
    FUNCTION(236, OrtStatus *, KernelInfoGetAttribute_tensor, const OrtKernelInfo *info, const char *name,
             OrtAllocator *allocator, OrtValue **out);
    FUNCTION(249, OrtStatus *, KernelInfoGetConstantInput_tensor, const OrtKernelInfo *info, size_t index, int *is_constant,
             const OrtValue **out);
    FUNCTION(274, OrtStatus *, KernelContext_ParallelFor, const OrtKernelContext *context, void (*function)(void *, size_t),
             size_t total, size_t batches, void *data);
};
#undef FUNCTION

struct OrtCustomOp {
    uint32_t version;
    void *(*CreateKernel)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);
    const char *(*GetName)(const OrtCustomOp *);
    const char *(*GetExecutionProviderType)(const OrtCustomOp *);
    int (*GetInputType)(const OrtCustomOp *, size_t);
    size_t (*GetInputTypeCount)(const OrtCustomOp *);
    int (*GetOutputType)(const OrtCustomOp *, size_t);
    size_t (*GetOutputTypeCount)(const OrtCustomOp *);
    void (*KernelCompute)(void *, OrtKernelContext *);
    void (*KernelDestroy)(void *);
    int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
    int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
    int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
    int (*GetVariadicInputMinArity)(const OrtCustomOp *);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
    OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **);
    OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
    OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *, void *);
    int (*GetStartVersion)(const OrtCustomOp *);
    int (*GetEndVersion)(const OrtCustomOp *);
    void *GetMayInplace, *ReleaseMayInplace, *GetAliasMap, *ReleaseAliasMap; /* functions, too; none here */
};
