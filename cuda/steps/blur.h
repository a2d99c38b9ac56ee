// A Gaussian along x, then y, then z; mirrored at the patch's border. The weights of one side of each kernel come with the op.
#pragma once

#include "../program.h"

AUG_BEGIN
namespace steps {

struct blur : Neighbourhood {
    AUG_VALUES(radius_z, radius_y, radius_x, weights)   // weights: radius + 1 of z, of y, of x; radius 0 leaves an axis alone
    static constexpr bool LIST = true;
    static AUG_HOSTDEV int phases(const float*) { return 3; }

    template <class L>
    static AUG_HOSTDEV typename L::Float gather(const float* v, int phase, const Around<L>& around) {
        const int axis = 2 - phase, radius = static_cast<int>(v[radius_z + axis]);
        const float* side = v + weights;
        for (int before = 0; before < axis; before++) side += static_cast<int>(v[radius_z + before]) + 1;
        const int dz = axis == 0, dy = axis == 1, dx = axis == 2;
        typename L::Float sum = around.reflected(0, 0, 0) * side[0];
        for (int k = 1; k <= radius; k++)
            sum = sum + (around.reflected(-k * dz, -k * dy, -k * dx) + around.reflected(k * dz, k * dy, k * dx)) * side[k];
        return sum;
    }
};

}  // namespace steps
AUG_END
