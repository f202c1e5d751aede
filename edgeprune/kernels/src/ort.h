/* The part of ONNX Runtime's C API that the operators use (API version 17, onnxruntime 1.17).
 *
 * OrtApi is a struct of function pointers whose order never changes, so a function is its index. */
#ifndef EDGEPRUNE_ORT_H
#define EDGEPRUNE_ORT_H

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
typedef void *const OrtApi;

typedef struct {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT32 = 6 };
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };

#define CreateStatus(api, code, message) ((OrtStatus * (*)(int, const char *))(api)[0])(code, message)
#define CreateCustomOpDomain(api, name, out) \
    ((OrtStatus * (*)(const char *, OrtCustomOpDomain **))(api)[26])(name, out)
#define CustomOpDomain_Add(api, domain, op) \
    ((OrtStatus * (*)(OrtCustomOpDomain *, const struct OrtCustomOp *))(api)[27])(domain, op)
#define AddCustomOpDomain(api, options, domain) \
    ((OrtStatus * (*)(OrtSessionOptions *, OrtCustomOpDomain *))(api)[28])(options, domain)
#define GetTensorMutableData(api, value, out) ((OrtStatus * (*)(OrtValue *, void **))(api)[51])(value, out)
#define GetTensorElementType(api, info, out) \
    ((OrtStatus * (*)(const OrtTensorTypeAndShapeInfo *, int *))(api)[60])(info, out)
#define GetDimensionsCount(api, info, out) \
    ((OrtStatus * (*)(const OrtTensorTypeAndShapeInfo *, size_t *))(api)[61])(info, out)
#define GetDimensions(api, info, out, count) \
    ((OrtStatus * (*)(const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))(api)[62])(info, out, count)
#define GetTensorTypeAndShape(api, value, out) \
    ((OrtStatus * (*)(const OrtValue *, OrtTensorTypeAndShapeInfo **))(api)[65])(value, out)
#define AllocatorAlloc(api, allocator, size, out) \
    ((OrtStatus * (*)(OrtAllocator *, size_t, void **))(api)[75])(allocator, size, out)
#define AllocatorFree(api, allocator, memory) ((OrtStatus * (*)(OrtAllocator *, void *))(api)[76])(allocator, memory)
#define GetAllocatorWithDefaultOptions(api, out) ((OrtStatus * (*)(OrtAllocator **))(api)[78])(out)
#define KernelInfoGetAttribute_float(api, info, name, out) \
    ((OrtStatus * (*)(const OrtKernelInfo *, const char *, float *))(api)[85])(info, name, out)
#define KernelInfoGetAttribute_int64(api, info, name, out) \
    ((OrtStatus * (*)(const OrtKernelInfo *, const char *, int64_t *))(api)[86])(info, name, out)
#define KernelInfoGetAttribute_string(api, info, name, out, size) \
    ((OrtStatus * (*)(const OrtKernelInfo *, const char *, char *, size_t *))(api)[87])(info, name, out, size)
#define KernelContext_GetInputCount(api, context, out) \
    ((OrtStatus * (*)(const OrtKernelContext *, size_t *))(api)[88])(context, out)
#define KernelContext_GetInput(api, context, index, out) \
    ((OrtStatus * (*)(const OrtKernelContext *, size_t, const OrtValue **))(api)[90])(context, index, out)
#define KernelContext_GetOutput(api, context, index, dims, count, out) \
    ((OrtStatus * (*)(OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **))(api)[91])( \
        context, index, dims, count, out)
#define ReleaseStatus(api, status) ((void (*)(OrtStatus *))(api)[93])(status)
#define ReleaseValue(api, value) ((void (*)(OrtValue *))(api)[96])(value)
#define ReleaseTensorTypeAndShapeInfo(api, info) ((void (*)(OrtTensorTypeAndShapeInfo *))(api)[99])(info)
#define ReleaseCustomOpDomain(api, domain) ((void (*)(OrtCustomOpDomain *))(api)[101])(domain)
#define KernelInfoGetAttributeArray_float(api, info, name, out, count) \
    ((OrtStatus * (*)(const OrtKernelInfo *, const char *, float *, size_t *))(api)[162])(info, name, out, count)
#define KernelInfoGetAttributeArray_int64(api, info, name, out, count) \
    ((OrtStatus * (*)(const OrtKernelInfo *, const char *, int64_t *, size_t *))(api)[163])(info, name, out, count)
#define KernelInfo_GetInputCount(api, info, out) \
    ((OrtStatus * (*)(const OrtKernelInfo *, size_t *))(api)[230])(info, out)
#define KernelInfoGetAttribute_tensor(api, info, name, allocator, out) \
    ((OrtStatus * (*)(const OrtKernelInfo *, const char *, OrtAllocator *, OrtValue **))(api)[236])(info, name, allocator, out)
#define KernelInfoGetConstantInput_tensor(api, info, index, is_constant, out) \
    ((OrtStatus * (*)(const OrtKernelInfo *, size_t, int *, const OrtValue **))(api)[249])(info, index, is_constant, out)
#define KernelContext_ParallelFor(api, context, function, total, batches, data) \
    ((OrtStatus * (*)(const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *))(api)[274])( \
        context, function, total, batches, data)
typedef struct OrtCustomOp OrtCustomOp;
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
    size_t (*GetMayInplace)(int **, int **);
    void (*ReleaseMayInplace)(int *, int *);
    size_t (*GetAliasMap)(int **, int **);
    void (*ReleaseAliasMap)(int *, int *);
};

#endif
