// What a step's header is written with: each in cuda/steps defines one struct of its name in namespace steps, from Pointwise or
// Neighbourhood.
//
//     struct multiply : Pointwise {
//         AUG_VALUES(factor, about_mean, pivot)      names of its numbers, in order, as augserver/augment/steps/multiply.py gives them;
//                                                    the last one may stand for a list
//         ...
//     };
//
// A step works in one or more phases; before a phase that asks for them, the statistics of the channel are taken.
#pragma once

#include "params.h"
#include "statistics.h"

AUG_BEGIN

#define AUG_VALUES(...)                      \
    enum Value : int { __VA_ARGS__, VALUES }; \
    static constexpr const char* NAMES = #__VA_ARGS__;

/// Where a pointwise step is: what it may read beside the value. Members that a step does not ask for are not set.
template <class L>
struct Here {
    typename L::Float normal[2];             // NORMALS of them: standard normals of this voxel and channel
    int z, y;                                // COORDINATES: output voxel
    typename L::Int x;
    typename L::Int label;                   // LABELS: of this voxel, as it is in the output; 0 without labels
    const int32_t* shape;                    // of the patch: z, y, x
    const PatchStatistics* statistics;       // [k]: taken before the k-th phase that asked for them
};

/// What most steps are; a step's struct hides what differs.
struct StepDefaults {
    enum : int { VALUES = 0 };
    static constexpr const char* NAMES = "";
    static constexpr bool LIST = false;          // the last value is a list, read by way of the pointer
    static constexpr int NORMALS = 0;
    static constexpr bool COORDINATES = false;
    static constexpr bool LABELS = false;
    static AUG_HOSTDEV int phases(const float*) { return 1; }
    static AUG_HOSTDEV bool statistics(const float*, int) { return false; }
};

/// A step that makes a voxel's value from that voxel's value: apply<L>(v, phase, value, here).
struct Pointwise : StepDefaults {
    static constexpr bool NEIGHBOURHOOD = false;
};

/// A step that makes a voxel's value from those around it: gather<L>(v, phase, around).
struct Neighbourhood : StepDefaults {
    static constexpr bool NEIGHBOURHOOD = true;
};

/// The channel as it was before this phase, seen from voxel (z, y, x), or from the row of voxels (z, y, x), (z, y, x + 1), ...
template <class L>
struct Around {
    using Float = typename L::Float;
    using Int = typename L::Int;
    const float* source;
    const int32_t* shape;   // of the patch: z, y, x
    int z, y, x;

    /// A row of the channel; z and y lie inside.
    AUG_HOSTDEV const float* row(int at_z, int at_y) const { return source + (static_cast<int64_t>(at_z) * shape[1] + at_y) * shape[2]; }
    /// x of each lane.
    AUG_HOSTDEV Int lanes() const { return L::lane_numbers() + x; }

    /// The value at a distance; beyond the patch it is mirrored about the outermost voxels' centres ("reflect" of PyTorch, "mirror" of SciPy).
    AUG_HOSTDEV Float reflected(int dz, int dy, int dx) const {
        return shifted(row(reflect(z + dz, shape[0]), reflect(y + dy, shape[1])), dx, [](Int i, int n) {
            i = L::select_int(i < 0, -i, i);
            i = L::select_int(i > n - 1, 2 * (n - 1) - i, i);
            return L::select_int(i < 0, Int{}, L::select_int(i > n - 1, Int{} + (n - 1), i));
        });
    }
    /// The value at a distance; beyond the patch it is that of the outermost voxel.
    AUG_HOSTDEV Float replicated(int dz, int dy, int dx) const {
        return shifted(row(clamp(z + dz, shape[0]), clamp(y + dy, shape[1])), dx, [](Int i, int n) {
            return L::select_int(i < 0, Int{}, L::select_int(i > n - 1, Int{} + (n - 1), i));
        });
    }

private:
    template <class Border>
    AUG_HOSTDEV Float shifted(const float* from, int dx, Border border) const {
        if (x + dx >= 0 && x + dx + L::COUNT <= shape[2]) return L::load_floats(from + x + dx);
        return L::gather(from, border(lanes() + dx, shape[2]));
    }
    static AUG_HOSTDEV int clamp(int i, int n) { return i < 0 ? 0 : i > n - 1 ? n - 1 : i; }
    static AUG_HOSTDEV int reflect(int i, int n) {
        i = i < 0 ? -i : i;
        return clamp(i > n - 1 ? 2 * (n - 1) - i : i, n);
    }
};

AUG_END
