/* SPDX-License-Identifier: BSD-2-Clause */
/* Every leaf of the interface, by the file that answers it. A leaf returns its status. */
#ifndef TDX_MODULE_LEAVES_H
#define TDX_MODULE_LEAVES_H

#include "tdx/module/internal.h"

/* pamt.c */
leaf_fn leaf_sys_tdmr_init;

/* mng.c: a TD's life */
leaf_fn leaf_mng_create, leaf_mng_addcx, leaf_mng_init, leaf_mr_finalize;

/* keys.c: key ids and cache write-back */
leaf_fn leaf_mng_key_config, leaf_mng_vpflushdone, leaf_mng_key_freeid, leaf_mng_key_reclaimid;
leaf_fn leaf_phymem_cache_wb;

/* phymem.c: physical pages */
leaf_fn leaf_phymem_page_rdmd, leaf_phymem_page_reclaim, leaf_phymem_page_wbinvd;

/* vp.c: vCPUs */
leaf_fn leaf_vp_create, leaf_vp_addcx, leaf_vp_init, leaf_vp_flush;

/* enter.c */
leaf_fn leaf_vp_enter;

/* metadata.c: fields by id */
leaf_fn leaf_vp_rd, leaf_vp_wr, leaf_guest_vm_rd, leaf_guest_vm_wr;

/* mem_table.c: Secure-EPT pages */
leaf_fn leaf_mem_sept_add, leaf_mem_sept_remove, leaf_mem_sept_rd;

/* mem_page.c: guest pages */
leaf_fn leaf_mem_page_add, leaf_mem_page_aug, leaf_mem_page_remove, leaf_mem_page_relocate;

/* mem_resize.c */
leaf_fn leaf_mem_page_promote, leaf_mem_page_demote;

/* mem_track.c */
leaf_fn leaf_mem_range_block, leaf_mem_range_unblock, leaf_mem_track;

/* mem_content.c */
leaf_fn leaf_mem_rd, leaf_mem_wr, leaf_mr_extend;

/* guest.c */
leaf_fn leaf_guest_vp_info, leaf_guest_vp_vmcall, leaf_guest_vp_veinfo_get, leaf_guest_vp_invept;

/* guest_page.c */
leaf_fn leaf_guest_page_accept, leaf_guest_page_attr_rd, leaf_guest_page_attr_wr;

#endif
