// The fields of Params, in order: AUG_FIELD(type, name, extents). No guard: whoever includes this says first what AUG_FIELD makes of
// them, params.h the struct, cpu_module.cpp its description for numpy.
AUG_FIELD(uint64_t, image, )             // int16 or float32 (C, Z, Y, X)
AUG_FIELD(uint64_t, label, )             // uint8 (Z, Y, X); 0: none
AUG_FIELD(uint64_t, out_image, )         // (C, Z, Y, X) of this sample
AUG_FIELD(uint64_t, out_label, )         // uint8 (Z, Y, X); 0: none
AUG_FIELD(int64_t, origin, [3])          // input coordinate (z, y, x) of output voxel 0, in 2^-32 voxels
AUG_FIELD(int64_t, step, [3][3])         // its change along output axis [0], in 2^-32 voxels: step[along][coordinate]
AUG_FIELD(float, step_x, [3])            // = step[2] in voxels, exactly the affine's float32 entries
AUG_FIELD(int32_t, in_shape, [3])        // z, y, x
AUG_FIELD(int32_t, out_shape, [3])
AUG_FIELD(int32_t, channels, )
AUG_FIELD(InputType, in_type, )
AUG_FIELD(OutputType, out_type, )
AUG_FIELD(uint32_t, flags, )
AUG_FIELD(int16_t, outside_label, )      // what lies outside the volume counts as this label
AUG_FIELD(int16_t, ignore_label, )       // is kept inside the occluded slab; NO_LABEL: none
AUG_FIELD(float, gain, )                 // contrast, pivot and brightness: v -> v gain + shift
AUG_FIELD(float, shift, )
AUG_FIELD(float, gamma, )                // exponent
AUG_FIELD(float, noise_std, )
AUG_FIELD(float, window_low, )
AUG_FIELD(float, window_inverse, )       // 1 / (high - low)
AUG_FIELD(float, window_span, )          // high - low
AUG_FIELD(uint32_t, key, [2])            // of Philox: low and high half of noise_key
AUG_FIELD(int32_t, occlusion, [2])       // slab [0, 1) of output planes; empty if equal
AUG_FIELD(int32_t, occlusion_label, )    // inside the slab, or KEEP_OCCLUDED_LABEL
AUG_FIELD(uint32_t, keep, [8])           // bit l % 32 of word l / 32: label l survives
AUG_FIELD(uint64_t, ops, )               // Op: the programs of this sample's channels; 0: none, and the fields above say all
AUG_FIELD(uint64_t, values, )            // float: the numbers that the ops read
AUG_FIELD(uint32_t, op_ends, [9])        // channel c's ops are op_ends[c] .. op_ends[c + 1] - 1
AUG_FIELD(uint32_t, reserved, )
AUG_FIELD(float, fill, [8])              // of each channel: outside the volume, and inside the occluded slab
AUG_FIELD(float, limit_low, [8])         // of each channel, with LIMITS
AUG_FIELD(float, limit_high, [8])
#undef AUG_FIELD
