// 3-D arrays and texture objects: enough to prove that addresses, pitches, axes and scales are right.
//
// Filtering follows the CUDA C++ Programming Guide, "Texture Fetching": linear filtering of unnormalised coordinates with 8 fractional bits,
// border mode (0 outside), int16 read as normalised float. A card's own rounding of the blend is not imitated.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "context.h"
#include "memory.h"

namespace fake {
namespace {

struct Array {
    CUDA_ARRAY3D_DESCRIPTOR shape;
    int device;
    std::vector<unsigned char> bytes;
    size_t voxel_bytes() const { return shape.Format == CU_AD_FORMAT_FLOAT ? 4 : 2; }
};

struct Texture {
    const Array* array;
    CUDA_TEXTURE_DESC how;
};

float value_at(const Array& array, int64_t x, int64_t y, int64_t z) {
    const auto& shape = array.shape;
    if (x < 0 || y < 0 || z < 0 || x >= static_cast<int64_t>(shape.Width) || y >= static_cast<int64_t>(shape.Height) ||
        z >= static_cast<int64_t>(shape.Depth))
        return 0.0f;
    const size_t at = (static_cast<size_t>(z) * shape.Height + static_cast<size_t>(y)) * shape.Width + static_cast<size_t>(x);
    if (shape.Format == CU_AD_FORMAT_FLOAT) {
        float value;
        std::memcpy(&value, array.bytes.data() + at * 4, 4);
        return value;
    }
    int16_t value;
    std::memcpy(&value, array.bytes.data() + at * 2, 2);
    return std::max(static_cast<float>(value) / 32767.0f, -1.0f);
}

struct Tap {
    int64_t index;
    float part;
};

/// Lower neighbour and weight of the upper one, in 1/256.
Tap tap(float coordinate) {
    const float shifted = coordinate - 0.5f;
    const float whole = std::floor(shifted);
    return {static_cast<int64_t>(whole), std::round((shifted - whole) * 256.0f) / 256.0f};
}

CUresult copy_3d(const CUDA_MEMCPY3D& job, CUstream handle, bool synchronous) {
    FAKE_NEEDS_CONTEXT();
    if (job.dstMemoryType != CU_MEMORYTYPE_ARRAY) return CUDA_ERROR_NOT_SUPPORTED;
    Array* array = reinterpret_cast<Array*>(job.dstArray);
    const unsigned char* source = nullptr;
    bool pinned = true;
    const size_t bytes = job.srcPitch * job.srcHeight * job.Depth;
    if (job.srcMemoryType == CU_MEMORYTYPE_DEVICE) {
        if (!is_device_memory(job.srcDevice, bytes)) return CUDA_ERROR_INVALID_VALUE;
        source = reinterpret_cast<const unsigned char*>(job.srcDevice);
    } else if (job.srcMemoryType == CU_MEMORYTYPE_HOST) {
        source = static_cast<const unsigned char*>(job.srcHost);
        pinned = is_pinned(source, bytes);
        if (!pinned && !synchronous) counters.pageable_copies++;
    } else {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    const size_t row = array->shape.Width * array->voxel_bytes();
    if (array->device != current_context()->device() || job.WidthInBytes != row || job.dstXInBytes != 0 ||
        job.dstY + job.Height > array->shape.Height || job.dstZ + job.Depth > array->shape.Depth || job.srcPitch < row || job.srcHeight < job.Height)
        return CUDA_ERROR_INVALID_VALUE;
    Stream& stream = stream_of(handle);
    stream.push(Work::H2D, [=] {
        for (size_t z = 0; z < job.Depth; z++)
            for (size_t y = 0; y < job.Height; y++)
                std::memcpy(array->bytes.data() + ((job.dstZ + z) * array->shape.Height + job.dstY + y) * row,
                            source + (z * job.srcHeight + y) * job.srcPitch, row);
    });
    if (synchronous || !pinned) stream.wait();
    return CUDA_SUCCESS;
}

}  // namespace
}  // namespace fake

using namespace fake;

FAKE_API CUresult cuArray3DCreate(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* shape) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (shape->NumChannels != 1 || (shape->Format != CU_AD_FORMAT_FLOAT && shape->Format != CU_AD_FORMAT_SIGNED_INT16) || !shape->Depth)
        return CUDA_ERROR_INVALID_VALUE;
    Array* made = new Array{*shape, current_context()->device(), {}};
    const size_t bytes = shape->Width * shape->Height * shape->Depth * made->voxel_bytes();
    if (!reserve_device_bytes(bytes)) {
        delete made;
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    made->bytes.assign(bytes, POISON);
    counters.arrays++;
    *handle = reinterpret_cast<CUarray>(made);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuArrayDestroy(CUarray handle) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    current_context()->wait();
    Array* array = reinterpret_cast<Array*>(handle);
    release_device_bytes(array->device, array->bytes.size());
    delete array;
    counters.arrays--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemcpy3D(const CUDA_MEMCPY3D* job) {
    FAKE_ENTER();
    return copy_3d(*job, nullptr, true);
}

FAKE_API CUresult cuMemcpy3DAsync(const CUDA_MEMCPY3D* job, CUstream stream) {
    FAKE_ENTER();
    return copy_3d(*job, stream, false);
}

FAKE_API CUresult cuTexObjectCreate(CUtexObject* texture, const CUDA_RESOURCE_DESC* resource, const CUDA_TEXTURE_DESC* how,
                                    const CUDA_RESOURCE_VIEW_DESC* view) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (resource->resType != CU_RESOURCE_TYPE_ARRAY || resource->flags != 0 || view) return CUDA_ERROR_INVALID_VALUE;
    for (int axis = 0; axis < 3; axis++)
        if (how->addressMode[axis] != CU_TR_ADDRESS_MODE_BORDER) return CUDA_ERROR_NOT_SUPPORTED;
    if (how->filterMode != CU_TR_FILTER_MODE_LINEAR || how->flags != 0) return CUDA_ERROR_NOT_SUPPORTED;
    for (const float border : how->borderColor)
        if (border != 0.0f) return CUDA_ERROR_NOT_SUPPORTED;
    *texture = reinterpret_cast<CUtexObject>(new Texture{reinterpret_cast<const Array*>(resource->res.array.hArray), *how});
    counters.textures++;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuTexObjectDestroy(CUtexObject texture) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    delete reinterpret_cast<Texture*>(texture);
    counters.textures--;
    return CUDA_SUCCESS;
}

FAKE_API float fake_fetch_texture(CUtexObject handle, float x, float y, float z) {
    const Array& array = *reinterpret_cast<const Texture*>(handle)->array;
    const Tap tx = tap(x), ty = tap(y), tz = tap(z);
    float sum = 0.0f;
    for (int corner = 0; corner < 8; corner++) {
        const int ix = corner & 1, iy = corner >> 1 & 1, iz = corner >> 2;
        const float weight = (ix ? tx.part : 1.0f - tx.part) * (iy ? ty.part : 1.0f - ty.part) * (iz ? tz.part : 1.0f - tz.part);
        sum += weight * value_at(array, tx.index + ix, ty.index + iy, tz.index + iz);
    }
    return sum;
}
