/** The example shop: one page, which shows an order of one eSIM. */
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Order } from './Order.js';
import './style.css';

const place = document.getElementById('shop');
if (place) createRoot(place).render(<StrictMode><Order number="A-4711" /></StrictMode>);
