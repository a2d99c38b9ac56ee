// From an output voxel to its place in the input volume.
//
// Output rows are cut into blocks of 64 voxels along x. The coordinate of a block's first voxel is integer arithmetic in 2^-32 voxels,
// hence exact; inside the block the float32 step is multiplied by 0..63 and added. The error against exact arithmetic on the same affine
// stays below 2e-5 voxel for steps up to 2, wherever the voxel lies in a volume however large.
#pragma once

#include "hostdev.h"
#include "params.h"

AUG_BEGIN

constexpr int X_BLOCK = 64;

/// Input coordinate of a block's first voxel: whole voxels and the rest in [0, 1].
struct Anchor {
    int32_t whole[3];
    float rest[3];
};

/// x must be a multiple of X_BLOCK.
AUG_HOSTDEV Anchor anchor_of(const Params& p, int z, int y, int x) {
    Anchor a;
    for (int d = 0; d < 3; d++) {
        const int64_t at = p.origin[d] + p.step[0][d] * z + p.step[1][d] * y + p.step[2][d] * x;
        a.whole[d] = static_cast<int32_t>(at >> 32);
        a.rest[d] = static_cast<float>(static_cast<uint32_t>(at)) * 0x1p-32f;
    }
    return a;
}

/// Lower voxel along one axis, and how far (0..1) the point lies from it towards the next; `offset` is x within the block.
template <class L>
AUG_HOSTDEV void place(const Anchor& a, int axis, float step, typename L::Float offset, typename L::Int& index, typename L::Float& part) {
    const typename L::Float c = offset * step + a.rest[axis];
    const typename L::Float whole = L::floor(c);
    part = c - whole;
    index = L::to_int(whole) + a.whole[axis];
}

/// The place of one output voxel.
struct Place {
    int32_t index[3];
    float part[3];
};

AUG_HOSTDEV Place place_of(const Params& p, const Anchor& a, int offset) {
    Place at;
    for (int d = 0; d < 3; d++) place<Scalar>(a, d, p.step_x[d], static_cast<float>(offset), at.index[d], at.part[d]);
    return at;
}

AUG_END
